"""Class names that a model file holds beside its weights, wherever its maker put them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from alphafix.checkpoints.formats._skeleton import Inert
from alphafix.images.order import are_made_up
from alphafix.reading.schema import parse_json

ClassNames = Mapping[str, tuple[str, ...]]
"""Names in the order of the logits, by the entry that holds them, like ``meta.classes``."""

# What entries with class names are called, by those that train models, in small letters.
_ENTRIES = (
    *("classes", "class_names", "classnames", "class_to_idx", "class_to_index", "idx_to_class"),
    *("index_to_class", "id2label", "label2id", "label_names", "labels", "names", "categories"),
)

# Entries of settings in which they may be, one in another.
_DEEPEST = 3

# More entries of settings are not looked through.
_MOST_ENTRIES = 1000


def class_names_in(data: object) -> ClassNames:
    """The lists of class names of what a torch file holds, or of a file's text metadata.

    Args:
        data: Its content, with `Inert` in the place of objects, or its metadata (JSON texts).
    """
    return dict(_found(data, "", 1))


def _found(data: object, place: str, depth: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    if isinstance(data, Inert):  # such as argparse.Namespace
        data = data.state
    if not isinstance(data, Mapping) or len(data) > _MOST_ENTRIES:
        return
    for name, value in data.items():
        if not isinstance(name, str):
            continue
        where = f"{place}{name}"
        if name.lower() in _ENTRIES and (names := _names(value)):
            if not are_made_up(names):
                yield where, names
        elif depth < _DEEPEST and isinstance(value, (Mapping, Inert)):
            yield from _found(value, f"{where}.", depth + 1)


def _names(value: Any) -> tuple[str, ...]:
    """Names in the order of the logits; none if a value says no such thing."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            value = parse_json(value)
        except ValueError:
            return ()
    if isinstance(value, (list, tuple)):
        return tuple(value) if all(isinstance(name, str) for name in value) else ()
    if not isinstance(value, Mapping):
        return ()
    by_key = [(_number(key), name) for key, name in value.items()]
    by_name = [(_number(number), name) for name, number in value.items()]
    for pairs in (by_key, by_name):
        numbered = {number: name for number, name in pairs if isinstance(name, str)}
        if len(numbered) == len(value) and set(numbered) == set(range(len(value))):
            return tuple(numbered[number] for number in range(len(value)))
    return ()


def _number(value: object) -> int | None:
    """A class number, which keys of JSON have as text."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 10:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
