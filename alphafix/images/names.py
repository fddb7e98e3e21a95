"""What the splits of a data set are called, and which of ours each one is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from alphafix.errors import InputError, option, some

SPLITS = ("train", "val", "test", "open")
PLACEHOLDER = "{split}"

USUAL: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev", "eval"),
    "test": ("test", "testing"),
    "open": ("open",),
}
"""Names that are understood by themselves, ours first."""


def usual_split(name: str) -> str | None:
    """Which of `SPLITS` a name usually means; None if it means none."""
    lower = name.lower()
    return next((split for split, names in USUAL.items() if lower in names), None)


def given_names(texts: Sequence[str]) -> dict[str, str]:
    """Read the user's names of splits, texts ``val=valid``: the data's name by ours.

    Raises:
        InputError: If one has another form, or names an unknown split.
    """
    found: dict[str, str] = {}
    for text in texts:
        split, equals, name = text.partition("=")
        if not equals or split not in SPLITS or not name:
            raise InputError(
                f"{option('split_name')} is not understood",
                got=text,
                expected=f"OURS=THEIRS, ours being one of {', '.join(SPLITS)}",
                todo=f"for example: {option('split_name', 'val=holdout')}",
            )
        found[split] = name
    return found


def match_splits(there: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    """Which name of the data is which split.

    A split of several usual names ("validation" and "dev", but no "val") is left to the user.

    Args:
        there: The data's names.
        given: The data's name by split, where the user said it.

    Returns:
        The data's name by split, of those that are there.

    Raises:
        InputError: If a given name is not there.
    """
    found: dict[str, str] = {}
    for split in SPLITS:
        if split in given:
            if given[split] not in there:
                raise InputError(
                    f"the data has no split {given[split]}",
                    got=f"{', '.join(there) or 'none'}",
                    expected=f"the name that {option('split_name')} gives for {split}",
                    todo=f"correct {option('split_name')}",
                )
            found[split] = given[split]
            continue
        taken = set(given.values())
        alike = [name for name in there if usual_split(name) == split and name not in taken]
        chosen = [split] if split in alike else alike
        if len(chosen) == 1:
            found[split] = chosen[0]
    return found


def several(there: Iterable[str], split: str) -> list[str]:
    """The names that could mean a split."""
    return sorted(name for name in there if usual_split(name) == split)


def no_split(split: str, there: Sequence[str], spec: str) -> InputError:
    """Return the error of a split that is not there, or not certain."""
    alike = several(there, split)
    if len(alike) > 1:
        return InputError(
            f"which part of the data is the split {split} is not certain",
            got=f"{spec} with {' and '.join(alike)}",
            expected="one of them",
            todo=f"say which: {option('split_name', f'{split}={alike[0]}')}",
        )
    missing = ""
    if PLACEHOLDER in spec:
        kind, _, path = spec.partition(":")
        path = spec if path.startswith("//") or not kind.isalnum() else path
        missing = f": {path.replace(PLACEHOLDER, split)} is not there"
    return InputError(
        f"the data has no split {split}{missing}",
        got=f"{spec} with {some(there) or 'no split'}",
        expected=f"a folder {split}, a file {split}.txt or {split}.csv in it, or a path "
        f"with {PLACEHOLDER}",
        todo=f"correct {option('data')} or {option('split')}, or say which part it is with "
        f"{option('split_name', f'{split}=NAME')}",
    )
