"""Which class has which number: never guessed where there is more than one answer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from alphafix.errors import InputError, option
from alphafix.reading.boundary import reading
from alphafix.reading.schema import parse_json, typed

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
            f"{option('class_order', 'natural')}, or {option('class_map', 'FILE')}",
        )
    return tuple(by_nature if order == "natural" else by_string)


def read_class_map(path: Path) -> tuple[str, ...]:
    """Read class names in the order of the model's logits.

    A text file has one name a line; a JSON file is a list of names, or an object
    ``{name: number}`` (timm's and Keras's class_to_idx) or ``{number: name}`` (transformers'
    id2label).

    Raises:
        InputError: If it is neither, a name is there twice, or a number is missing.
    """
    what = "a class map: a text file with one class name a line, or JSON {name: number}"
    with reading(path, what, todo=f"correct {option('class_map')}"):
        if path.suffix == ".json":
            names = _from_json(parse_json(path.read_bytes()))
        else:
            lines = path.read_text(encoding="utf-8").split("\n")
            names = [line.rstrip("\r") for line in lines if line.strip()]
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


def _from_json(data: object) -> list[str]:
    if isinstance(data, list):
        return [str(name) for name in typed(list[str | int | float], data)]
    if isinstance(data, dict) and all(isinstance(value, str) for value in data.values()):
        pairs = typed(dict[int, str], data)
    else:
        pairs = {}
        for name, number in typed(dict[str, int], data).items():
            if number in pairs:
                raise ValueError(f"number {number} twice: {pairs[number]!r} and {name!r}")
            pairs[number] = name
    missing = sorted(set(range(len(pairs))) - set(pairs))
    if missing:
        raise ValueError(f"no class has the number {missing[0]} (of 0..{len(pairs) - 1})")
    return [pairs[number] for number in range(len(pairs))]
