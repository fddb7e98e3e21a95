"""How labels become class ids: decided once for a whole data set, and never guessed.

A source says what its labels are as they are written, all of them texts; `read_labels` decides for
all splits together whether they are names of classes or class ids, and which name has which id.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from alphafix.errors import InputError, counted, option, some
from alphafix.files import digest
from alphafix.images.order import ClassOrder, in_order, repeated
from alphafix.values.arrays import IntArray

LabelKind = Literal["names", "ids"]
KINDS: tuple[LabelKind, ...] = ("names", "ids")

# What a spreadsheet makes of a class id is one too: "3.0".
_NUMBER = re.compile(r"([+-]?[0-9]+)(\.0*)?")


@dataclass(frozen=True)
class Written:
    """The labels of one split as their source writes them.

    Attributes:
        values: The different ones; for a source with a numbering of its own (a ClassLabel of
            Hugging Face) its names in that order, those without a sample too.
        what: What they are, in words: "folder names".
        places: Where a value is first, in words, where that is known.
        named: Whether they are names whatever they look like.
        numbered: Whether the order of ``values`` is the source's own numbering.
        whole: Whether these are all of them.
    """

    values: tuple[str, ...]
    what: str
    places: Mapping[str, str] = field(default_factory=dict)
    named: bool = False
    numbered: bool = False
    whole: bool = True

    def place(self, value: str) -> str:
        """A value and where it is, in words."""
        where = self.places.get(value)
        return repr(value) + (f" ({where})" if where else "")


@dataclass(frozen=True)
class Reading:
    """How labels become class ids.

    Attributes:
        by: Whether they are names of classes or the ids themselves.
        names: C class names in the order of the logits; None if they are not known.
        order: Where that order is from, in words.
        said: Whether the user, or an earlier extraction, said what labels are.
    """

    by: LabelKind
    names: tuple[str, ...] | None
    order: str
    said: bool = False

    @property
    def ids(self) -> Mapping[str, int]:
        """Class id by name; of ids none."""
        return {name: i for i, name in enumerate(self.names or ())} if self.by == "names" else {}

    def table(self, values: Sequence[str]) -> IntArray:
        """Class id of each of some labels, int64; they must be known.

        Raises:
            InputError: If one is not.
        """
        ids = self.ids
        return np.array([self.class_id(value, ids) for value in values], dtype=np.int64)

    def class_id(self, value: str, ids: Mapping[str, int], where: str = "") -> int:
        """Class id of a label.

        Args:
            value: The label as it is written.
            ids: `ids`, which are made once for many labels.
            where: Where it is, in words.

        Raises:
            InputError: If it is no class.
        """
        number = whole_number(value) if self.by == "ids" else ids.get(value, -1)
        if number is None or not 0 <= number < 2**62:
            raise unknown_labels([repr(value) + (f" ({where})" if where else "")], self.by)
        return number

    def digest(self) -> str:
        """Hash of what decides a label's class id."""
        return digest([self.by, list(self.ids)])


def whole_number(value: str) -> int | None:
    """The whole number that a text is, or None."""
    found = _NUMBER.fullmatch(value)
    return int(found.group(1)) if found else None


def unknown_labels(places: Sequence[str], by: LabelKind) -> InputError:
    """Return the error of labels that are no classes, each in words."""
    if by == "ids":
        return InputError(
            f"{counted(len(places), 'label is no class id', 'labels are no class ids')}",
            got=some(places),
            expected="numbers from 0 to C-1: the rows of the head",
            todo="correct the labels; samples of no known class belong into the split open",
        )
    return InputError(
        f"{counted(len(places), 'label is no class', 'labels are no classes')} of the model's list",
        got=some(places),
        expected="the classes that the training split has, or classes.json, or "
        f"{option('class_map')}",
        todo=f"correct the labels or {option('class_map')}; other classes belong into the split "
        f"open ({option('split', 'open')}), or start a new run with {option('run')}",
    )


def read_labels(
    written: Mapping[str, Written],
    *,
    names: tuple[str, ...] | None = None,
    origin: str = "",
    order: ClassOrder | None = None,
    kind: LabelKind | None = None,
) -> Reading:
    """Decide how the labels of all splits become class ids.

    Names come before numbers: where class names are known and all labels are among them, labels are
    names. Numbers without names are class ids. Where both readings are possible and differ, it is
    the user's to say, unless the names are just those of the labels.

    Args:
        written: The labels of each split, the training split first.
        names: C class names in the order of the logits, where they are known.
        origin: Where those are from, in words.
        order: Order of names in the logits, where they have to be put in order.
        kind: What the labels are, if that is known.

    Raises:
        InputError: If a label is no class, or the reading is not certain.
    """
    values = tuple(dict.fromkeys(value for one in written.values() for value in one.values))
    if names is None:
        return _without_names(written, values, order, kind)
    reading = Reading(kind or "names", names, origin, said=kind is not None)
    if kind is not None:
        _require_known(written, reading)
        return reading
    as_names = set(values) <= set(names)
    numbers = None if _named(written) else _as_ids(values, len(names))
    if as_names and numbers is not None and not any(one.named for one in written.values()):
        _refuse_two_readings(written, values, names, numbers, origin)
    if numbers is not None and not as_names:
        reading = Reading("ids", names, origin)
    _require_known(written, reading)
    return reading


def _without_names(
    written: Mapping[str, Written],
    values: tuple[str, ...],
    order: ClassOrder | None,
    kind: LabelKind | None,
) -> Reading:
    """The reading where only the labels themselves say what the classes are."""
    first = next(iter(written.values()))
    bare = all(whole_number(value) is not None for value in values)
    if kind == "ids" or (kind is None and bare and not any(one.named for one in written.values())):
        reading = Reading("ids", None, "the numbers themselves", said=kind is not None)
    elif first.numbered:
        reading = Reading("names", first.values, f"{first.what}, in their own numbering")
    else:
        found = in_order(first.values, order)
        reading = Reading("names", found, f"{first.what} in {order or 'string'} order")
    _require_known(written, reading)
    return reading


def _named(written: Mapping[str, Written]) -> bool:
    """Whether labels are names of a numbering that numbers cannot stand for."""
    return any(
        one.numbered and one.values != tuple(map(str, range(len(one.values))))
        for one in written.values()
    )


def _as_ids(values: Sequence[str], num_classes: int) -> list[int] | None:
    """The labels as class ids, or None if they cannot be those."""
    numbers = [whole_number(value) for value in values]
    found = [number for number in numbers if number is not None and 0 <= number < num_classes]
    return found if len(found) == len(values) else None


def _refuse_two_readings(
    written: Mapping[str, Written],
    values: Sequence[str],
    names: tuple[str, ...],
    numbers: Sequence[int],
    origin: str,
) -> None:
    """Raise if labels that can be names or ids are different classes as either.

    Raises:
        InputError: If so, unless all names are labels, and the user gave them.
    """
    ids = {name: number for number, name in enumerate(names)}
    differ = [v for v, number in zip(values, numbers, strict=True) if ids[v] != number]
    if differ and set(values) != set(names):
        raise two_readings(next(iter(written.values())), differ[0], ids, origin)


def two_readings(written: Written, value: str, ids: Mapping[str, int], origin: str) -> InputError:
    """Return the error of a label that is one class as a name and another one as an id."""
    return InputError(
        "what the labels mean is not certain",
        got=f"label {written.place(value)}, among {written.what}",
        expected=f"either the name of class {ids[value]} (in {origin}) or the id of class "
        f"{whole_number(value)}",
        todo=f"say which: {option('label_kind', 'names')} or {option('label_kind', 'ids')}",
    )


def _require_known(written: Mapping[str, Written], reading: Reading) -> None:
    """Check that all labels are classes, and that no two are the same one.

    Raises:
        InputError: If not.
    """
    ids = reading.ids
    for split, one in written.items():
        numbers = [whole_number(value) for value in one.values]
        most = 2**62 if reading.names is None else len(reading.names)
        known = (
            [value in ids for value in one.values]
            if reading.by == "names"
            else [number is not None and 0 <= number < most for number in numbers]
        )
        wrong = [
            one.place(value) for value, fine in zip(one.values, known, strict=True) if not fine
        ]
        if wrong:
            raise unknown_labels([f"{place} of {split}" for place in wrong], reading.by)
        doubled = len(set(numbers)) < len(numbers) if reading.by == "ids" else False
        if doubled:
            same = next(v for v in one.values if numbers.count(whole_number(v)) > 1)
            alike = [v for v in one.values if whole_number(v) == whole_number(same)]
            raise InputError(
                f"labels of {split} are different texts and the same number",
                got=" and ".join(map(repr, alike)),
                expected="one spelling a class",
                todo=f"correct the labels, or say that they are names: "
                f"{option('label_kind', 'names')}",
            )


@dataclass(frozen=True)
class Known:
    """What an earlier extraction of a run decided.

    Attributes:
        names: C class names in the order of the logits.
        kind: What the labels were, where that is recorded.
        order: Where the order was from, in words.
    """

    names: tuple[str, ...]
    kind: LabelKind | None = None
    order: str = "classes.json"


def check_own_names(reading: Reading, own: tuple[str, ...], written: Mapping[str, Written]) -> str:
    """Compare class names with those that the model has itself.

    Args:
        reading: How labels are read.
        own: C names in the order of the logits, as the model says.
        written: The labels of each split.

    Returns:
        What was found, in words.

    Raises:
        InputError: If names that both have are at other places, or labels that are read as ids are
            other classes by the model's names.
    """
    if reading.by == "ids" and not reading.said:
        by_name = {name: number for number, name in enumerate(own)}
        for one in written.values():
            differ = [v for v in one.values if by_name.get(v, whole_number(v)) != whole_number(v)]
            if differ and set(one.values) <= set(own):
                raise two_readings(one, differ[0], by_name, "the model's own names")
    places = {plain: number for number, plain in enumerate(map(_plain, own))}
    doubled = set(repeated(list(map(_plain, own))))
    names = reading.names
    if names is None:
        return "taken from the model"
    comparable = places.keys() - doubled
    shared = [(i, name) for i, name in enumerate(names) if _plain(name) in comparable]
    wrong = [(i, name) for i, name in shared if places[_plain(name)] != i]
    if wrong:
        at, name = wrong[0]
        raise InputError(
            "the classes have another order than the model's own",
            got=f"class {at} is {name!r}"
            + (f"; {len(wrong)} of {len(names)} differ" if len(wrong) > 1 else ""),
            expected=f"class {at} is {own[at]!r}, as the model says"
            if at < len(own)
            else f"class {places[_plain(name)]} is {name!r}, as the model says",
            todo=f"give the names in the model's order with {option('class_map')}",
        )
    if not shared:
        return f"other names, like {own[0]!r}: the order could not be compared"
    others = [
        f"class {i} {names[i]!r}, there {own[i]!r}"
        for i in range(len(names))
        if _plain(names[i]) not in places and i < len(own)
    ]
    return "agree" if not others else f"agree but for {some(others)}"


def _plain(name: str) -> str:
    """A name as it is compared: neither case nor the kind of space matters."""
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()
