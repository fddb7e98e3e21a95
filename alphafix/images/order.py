"""Which class has which number: never guessed where there is more than one answer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from alphafix.errors import InputError, option
from alphafix.reading.boundary import require_file
from alphafix.reading.schema import parse_json
from alphafix.shown import in_list

ClassOrder = Literal["string", "natural"]


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sort key under which "class2" comes before "class10"."""
    parts = re.split(r"([0-9]+)", name)
    # Numbers by their length and then as text: they may be longer than int() takes.
    bare = [(part.lstrip("0") if place % 2 else None, part) for place, part in enumerate(parts)]
    return [(0, 0, part) if number is None else (1, len(number), number) for number, part in bare]


def in_order(names: Sequence[str], order: ClassOrder | None) -> tuple[str, ...]:
    """Put class names in the order of the model's logits.

    Args:
        names: The names, in any order.
        order: "string" (as torchvision's ImageFolder), "natural" (2 before 10), or None
            where both are the same.

    Raises:
        InputError: If ``order`` is None and the two differ.
    """
    by_string, by_nature = sorted(names), sorted(names, key=lambda n: (natural_key(n), n))
    if order is None and by_string != by_nature:
        at = next(i for i, (a, b) in enumerate(zip(by_string, by_nature, strict=True)) if a != b)
        raise InputError(
            "the order of the classes is not certain",
            got=f"class {at} is {by_string[at]!r} in string order, {by_nature[at]!r} in natural",
            expected="the order in which the model was trained",
            todo=f"say which: {option('class_order', 'string')} (torchvision's ImageFolder, timm), "
            f"{option('class_order', 'natural')}, or {option('class_map', 'FILE')}, which may be "
            "the model's config.json",
        )
    return tuple(by_nature if order == "natural" else by_string)


def read_class_map(path: Path) -> tuple[str, ...]:
    """Read class names in the order of the model's logits.

    A text file has one name a line; a JSON file is a list of names, or an object
    ``{name: number}`` (timm's and Keras's class_to_idx, transformers' label2id) or
    ``{number: name}`` (id2label), a model's config.json with ``id2label`` or ``label_names``, or
    what ``alphafix inspect --json`` prints of a file that holds ``class_names``.

    Raises:
        InputError: If it is neither, it can be read in two ways, a name is there twice, or a
            number is missing.
    """
    require_file(path, "a class map")
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".json":
            names = _from_json(parse_json(text))
        else:
            names = [line.rstrip("\r") for line in text.split("\n") if line.strip()]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"{path} is no class map",
            got=str(error),
            expected="a text file with one class name a line, or JSON {name: number}",
            todo=f"correct {option('class_map')}",
        ) from error
    doubled = repeated(names)
    if doubled or not names:
        raise InputError(
            f"{path} is no class map",
            got=f"{doubled[0]!r} twice" if doubled else "no names",
            expected="each class once",
            todo=f"correct {option('class_map')}",
        )
    return tuple(names)


def repeated(names: Sequence[str]) -> list[str]:
    """The names that are there more than once, sorted."""
    return sorted(name for name, count in Counter(names).items() if count > 1)


def are_made_up(names: tuple[str, ...]) -> bool:
    """Whether names are those that transformers makes up where it knows none."""
    return names == tuple(f"LABEL_{number}" for number in range(len(names)))


def _from_json(data: object) -> list[str]:
    if isinstance(data, dict) and isinstance(data.get("id2label"), dict):
        return _by_number((int(key), str(value)) for key, value in data["id2label"].items())
    for key in ("label_names", "class_names"):
        if isinstance(data, dict) and isinstance(data.get(key), list):
            data = data[key]
    if isinstance(data, list):
        return [str(name) for name in data]
    if not isinstance(data, dict):
        raise ValueError(f"a JSON {type(data).__name__}")
    named = [(int(value), str(key)) for key, value in data.items() if _is_number(value)]
    numbered = [(int(key), value) for key, value in data.items() if _is_number(key)]
    if not all(isinstance(value, str) for value in data.values()):
        return _by_number((int(value), str(key)) for key, value in data.items())
    # Texts on both sides: what is a number, and of these what counts 0..C-1, decides.
    readings = [
        _by_number(pairs)
        for pairs in (named, numbered)
        if sorted(number for number, _ in pairs) == list(range(len(data)))
    ]
    if len(readings) == 2 and readings[0] != readings[1]:
        first, second = (", ".join(map(in_list, names[:8])) for names in readings)
        raise ValueError(
            f"there are two readings: as {{name: number}} the classes are {first}; as "
            f"{{number: name}} they are {second}; write a text file with one name a line instead"
        )
    return readings[0] if readings else _by_number(numbered or named)


def _is_number(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9]+", value) is not None


def _by_number(pairs: Iterable[tuple[int, str]]) -> list[str]:
    """Names in the order of their numbers, which must be 0..C-1."""
    found: dict[int, str] = {}
    for number, name in pairs:
        if number in found:
            raise ValueError(f"number {number} twice: {found[number]!r} and {name!r}")
        found[number] = name
    missing = sorted(set(range(len(found))) - set(found))
    if missing:
        raise ValueError(f"no class has the number {missing[0]} (of 0..{len(found) - 1})")
    return [found[number] for number in range(len(found))]
