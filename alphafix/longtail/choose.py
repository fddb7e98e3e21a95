"""Which classes are known and which are open, and where each list's images come from."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from alphafix.errors import InputError, counted, option, some
from alphafix.longtail.draw import Source
from alphafix.longtail.material import ClassImages, open_images, shuffled
from alphafix.shown import in_list


def sources(
    images: ClassImages, sizes: Mapping[str, int], wanted: Mapping[str, str | None]
) -> Source:
    """Where validation and test images come from.

    Args:
        images: All images.
        sizes: Images a class of "val" and "test".
        wanted: Part that each of them is to be drawn from; None for the part of its name if
            there is one, else the training part.

    Raises:
        InputError: If there is no such part.
    """
    parts = {"train": "train"}
    for split, part in wanted.items():
        if part is not None and part not in images.parts:
            raise InputError(
                f"{images.root} has no part {part}",
                got=", ".join(images.parts),
                expected=f"a folder {images.root / part} with class folders",
                todo=f"correct {option(f'{split}_from')}",
            )
        parts[split] = part or (split if split in images.parts else "train")
    return Source(parts, sizes)


def known_and_open(
    images: ClassImages, ordered: Sequence[str], named: Sequence[str], drawn: int, *, seed: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the known classes in the order of their ids, and those of the open ones.

    Args:
        images: All images.
        ordered: Classes of the training part in order.
        named: Open classes that the user names.
        drawn: How many more to draw.
        seed: Of the draw.

    Raises:
        InputError: If a name is unknown, fewer than two known classes are left, or a class
            that is not open has no training images.
    """
    everything = {name for classes in images.parts.values() for name in classes}
    missing = [name for name in named if name not in everything]
    if missing:
        raise InputError(
            "an open class is not there",
            got=missing[0],
            expected=f"one of the {len(everything)} class folders of {images.root}",
            todo=f"correct {option('open')}",
        )
    left = [name for name in ordered if name not in named]
    if len(left) - drawn < 2:
        raise InputError(
            "too few known classes are left",
            got=f"{counted(len(ordered), 'class')}, {len(set(named))} named and {drawn} "
            "drawn as open ones",
            expected="at least two known classes",
            todo=f"lower {option('open_classes')}, or name fewer classes with {option('open')}",
        )
    unknown = {*named, *shuffled(left, seed, "open")[:drawn]}
    strange = sorted(everything - set(ordered) - unknown)
    if strange:
        raise InputError(
            f"{counted(len(strange), 'class has', 'classes have')} no training images",
            got=some(map(in_list, strange)),
            expected="classes of train, or open ones",
            todo=f"give each of them with {option('open')}, or remove it",
        )
    return tuple(name for name in left if name not in unknown), tuple(sorted(unknown))


def images_of_open(
    images: ClassImages, names: Sequence[str], part: str
) -> dict[str, tuple[str, ...]]:
    """Images of open classes: those of ``part``, or of another one where it has none."""
    parts = (part, "train", "val", "test")
    return {
        name: next((paths for other in parts if (paths := images.of(other, name))), ())
        for name in names
    }


def images_from_elsewhere(
    images: ClassImages, taken: Collection[str], folder: Path
) -> dict[str, tuple[str, ...]]:
    """Images of open classes from another folder.

    Raises:
        InputError: If a class of the folder has one of these names.
    """
    found = dict(open_images(folder, images.root))
    both = sorted(set(found) & set(taken))
    if both:
        raise InputError(
            f"{counted(len(both), 'class')} of {folder} in {images.root} too",
            got=some(map(in_list, both)),
            expected="classes that training never sees",
            todo=f"remove them from {option('open_data')}; rename folders of which only the "
            "names are alike",
        )
    return found
