"""The splits that are to be extracted, with one reading of labels for all of them."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from alphafix.errors import InputError, Words, counted, option
from alphafix.images.data import ImageData
from alphafix.images.labels import (
    Known,
    LabelKind,
    Reading,
    Written,
    check_own_names,
    read_labels,
)
from alphafix.images.listing import printable
from alphafix.images.names import SPLITS, given_names, match_splits, no_split, usual_split
from alphafix.images.order import ClassOrder, are_made_up, in_order, read_class_map, repeated
from alphafix.images.parts import Limited, carve
from alphafix.images.source import ImageSource
from alphafix.shown import without_secrets
from alphafix.values.labels import class_counts

logger = logging.getLogger(__name__)

# In place of a name: the split is made of a part of the training split.
CARVED = ""


@dataclass(frozen=True)
class Said:
    """What the user says of classes and splits.

    Attributes:
        order: Order of class names in the logits.
        class_map: File with the class names in their order.
        kind: Whether labels are names or class ids.
        names: The data's name of a split, by ours, where it has another.
        val_fraction: Part of each training class that becomes the split val.
        val_seed: What draws it.
        limit: Largest number of images a split.
    """

    order: ClassOrder | None = None
    class_map: Path | None = None
    kind: LabelKind | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    val_fraction: float | None = None
    val_seed: int = 0
    limit: int | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Said:
        """Read it from options, given or recorded.

        Raises:
            InputError: If a name of a split is not understood.
        """
        class_map = options.get("class_map")
        return cls(
            order=options.get("class_order"),
            class_map=None if class_map is None else Path(class_map),
            kind=options.get("label_kind"),
            names=given_names(options.get("split_name") or ()),
            val_fraction=options.get("val_fraction"),
            val_seed=options.get("val_seed") or 0,
            limit=options.get("limit"),
        )


@dataclass(frozen=True)
class SplitSources:
    """Images by split.

    Attributes:
        sources: The images of each split.
        reading: How labels became class ids.
        written: The labels of each split as they are written.
        places: Where each split is, in words.
        data: The whole data set.
        chosen: The data's name of each split that is used.
    """

    sources: dict[str, ImageSource]
    reading: Reading
    written: Mapping[str, Written]
    places: Mapping[str, str]
    data: ImageData
    chosen: Mapping[str, str]

    @property
    def names(self) -> tuple[str, ...] | None:
        """C class names in the order of the logits, or None if labels are bare numbers."""
        return self.reading.names

    def check_classes(
        self, num_classes: int, own_names: tuple[str, ...] | None = None
    ) -> SplitSources:
        """Check names and labels against the model's.

        Args:
            num_classes: C.
            own_names: Class names in the order of the logits, if the model says so.

        Returns:
            The same, with the model's names where the data has none.

        Raises:
            InputError: If the numbers differ, a label is out of range, or the model has the
                same names in another order.
        """
        if self.names is not None and len(self.names) != num_classes:
            raise InputError(
                "the data and the model differ in their number of classes",
                got=f"{counted(len(self.names), 'class name')} ({self.names[0]!r} to "
                f"{self.names[-1]!r}), a head of {num_classes} rows",
                expected="as many",
                todo=f"give the names of all the model's classes with {option('class_map')}; "
                "classes of the data that the model does not know belong into the split open",
            )
        for split, source in self.sources.items():
            labels = source.known_labels
            wrong = np.zeros(0) if labels is None else (labels < -1) | (labels >= num_classes)
            if labels is not None and wrong.any():
                first = int(np.argmax(wrong))
                raise InputError(
                    f"{counted(int(wrong.sum()), 'label')} of {split} out of range",
                    got=f"label {labels[first]} of {_id(source, first)}",
                    expected=f"0..{num_classes - 1}, as the model has {num_classes} classes",
                    todo="check that labels count from 0, and that the model is the right one",
                )
        if own_names is None or are_made_up(own_names):
            return self
        logger.info(
            "the model's own class names: %s",
            check_own_names(self.reading, own_names, self.written),
        )
        if self.names is not None or len(own_names) != num_classes or repeated(own_names):
            return self
        return replace(self, reading=replace(self.reading, names=own_names))

    def warn(self) -> None:
        """Say what is taken for which split and what is left out, before the long work starts."""
        for split, name in self.chosen.items():
            if not self.data.single and name != split:
                logger.info("%s: %s", split, without_secrets(self.places[split]))
        for name in self.data.there():
            what = self.data.beside(name) if name not in self.chosen.values() else None
            if what is not None:
                split = usual_split(name) or "val"
                if split == name:  # it was not asked for
                    logger.info("%s: not used; %s", what, Words(option("split")))
                    continue
                hint = Words(option("split_name", f"{split}={name}"))
                logger.warning("%s: not used; if it is the split %s: %s", what, split, hint)
        for split, source in self.sources.items():
            for note in source.notes:
                logger.warning("%s: %s", split, Words(note))
        for one, other, shared in self._shared():
            logger.warning(
                "%s of %s that %s has too, the first %s: figures on them are not those of images "
                "that nothing has seen",
                *(counted(len(shared), "image"), other, one, printable(shared[0])),
            )

    def _shared(self) -> Iterator[tuple[str, str, list[str]]]:
        """Pairs of splits and the files that both list, in the order of the second."""
        for one, other in itertools.combinations(self.sources, 2):
            later = dict.fromkeys(self.sources[other].file_paths)  # the smaller one, as a rule
            both = (
                {path for path in self.sources[one].file_paths if path in later} if later else set()
            )
            if both:
                yield one, other, [path for path in later if path in both]

    def tell(self, num_classes: int) -> None:
        """Say what was found, before the long work starts."""
        for split, source in self.sources.items():
            labels = source.known_labels
            if labels is None:
                logger.info("%s: %s", split, counted(source.groups, "archive"))
                continue
            counts = class_counts(labels, num_classes)
            if not counts.any():
                logger.info("%s: %s of no known class", split, counted(len(labels), "image"))
                continue
            low, high = f"{counts.min():,}", f"{counts.max():,}"
            each = low if low == high else f"{low} to {high}"
            images, classes = counted(len(labels), "image"), counted(num_classes, "class")
            logger.info("%s: %s, %s of each of %s", split, images, each, classes)

    def record(self, split: str) -> dict[str, Any]:
        """How the labels of a split were read, as JSON data."""
        one = self.written.get(split)
        example = [] if one is None or not one.values else [one.values[0]]
        found: dict[str, Any] = {"images": self.places[split]}
        if one is not None:
            found |= {"labels": one.what, "read_as": self.reading.by}
            found["example"] = [*example, *map(int, self.reading.table(example))]
        return found

    def decided(self) -> dict[str, str]:
        """How labels of the whole data set were read, as JSON data."""
        return {"read_as": self.reading.by, "order": self.reading.order}


def _id(source: ImageSource, number: int) -> str:
    """Id of one of all samples."""
    group = 0
    while number >= source.size(group):
        number -= source.size(group)
        group += 1
    return source.sample(group, number).id


def choose_splits(
    data: ImageData, wanted: str, spec: str, said: Said | None = None
) -> dict[str, str]:
    """Return the splits to extract, each with the data's name of it.

    Args:
        data: The data set.
        wanted: Their names, with commas; "" for train, and val and test if they are there.
        spec: What the user named it by.
        said: What the user says of splits.

    Returns:
        The name by split; `CARVED` for a split val that is to be carved from the training split.

    Raises:
        InputError: If a name is unknown, or there is no such split.
    """
    said = said or Said()
    there = data.there()
    found = {} if data.single else match_splits(there, said.names)
    usual = {"train": found.get("train"), **{s: found[s] for s in SPLITS[:3] if s in found}}
    chosen = _wanted(wanted, there, found) or usual
    if data.single and len(chosen) > 1:
        raise InputError(
            f"{spec} is the data of one split",
            got=option("split", ",".join(chosen)),
            expected="one split a command, or a path with {split} in it",
            todo=f"for example: {option('data', 'data/{split}.txt')}",
        )
    if said.val_fraction is not None and chosen.keys() & {"train", "val"}:
        if found.get("val") is not None:
            raise InputError(
                "there are validation images already",
                got=f"{data.place(found['val'])}, and {option('val_fraction')}",
                expected="one of them",
                todo=f"leave {option('val_fraction')} out",
            )
        chosen["val"] = CARVED
    for split, name in chosen.items():
        if name is None and not data.single:
            raise no_split(split, there, spec)
    return {split: split if name is None else name for split, name in chosen.items()}


def _wanted(wanted: str, there: Sequence[str], found: Mapping[str, str]) -> dict[str, str | None]:
    """The splits that the user names, by our names or the data's."""
    chosen: dict[str, str | None] = {}
    for word in (part.strip() for part in wanted.split(",")):
        if not word:
            continue
        by_name = next((split for split, name in found.items() if name == word), None)
        split = word if word in SPLITS else by_name or usual_split(word)
        if split is None:
            raise InputError(
                "an unknown split",
                got=word,
                expected=", ".join(SPLITS),
                todo=f"correct {option('split')}, or say which split it is: "
                f"{option('split_name', f'val={word}')}",
            )
        chosen[split] = word if word in there and word not in SPLITS else found.get(split)
    return chosen


def open_splits(
    data: ImageData,
    splits: Mapping[str, str] | Sequence[str],
    said: Said | None = None,
    *,
    known: Known | None = None,
) -> SplitSources:
    """Open the splits under one reading of their labels.

    Args:
        data: The data set.
        splits: Which of its splits, with the data's name of each where it has another.
        said: What the user says of the classes.
        known: What an earlier extraction decided, which is to be kept.

    Raises:
        InputError: If the reading is not certain, another one was used before, or a split is empty.
    """
    said = said or Said()
    names = dict(splits) if isinstance(splits, Mapping) else {split: split for split in splits}
    carved = CARVED in names.values()
    used = {split: name for split, name in names.items() if name != CARVED}
    if carved and "train" not in used:
        used = {"train": _training(data, said) or "train", **used}
    reading, written = _read(data, used, said, known)
    sources = {
        split: data.source(split, name, None if split == "open" else reading)
        for split, name in used.items()
    }
    places = {split: data.place(name) for split, name in used.items()}
    if carved and said.val_fraction is not None:
        share = f"{said.val_fraction:g} of each class, drawn with seed {said.val_seed}"
        sources["train"], sources["val"] = carve(sources["train"], said.val_fraction, said.val_seed)
        written["val"], places["val"] = written["train"], f"{places['train']} ({share})"
    for split in names:
        source = sources[split]
        if source.known_size == 0:
            raise InputError(
                f"the split {split} holds no images",
                *source.notes,
                got=f"0 images in {places[split]}",
                expected="at least one",
                todo=f"correct {option('data')} or {option('split')}",
            )
        sources[split] = source if said.limit is None else Limited(source, said.limit)
    kept = {split: sources[split] for split in names}
    return SplitSources(kept, reading, written, places, data, used | names)


def _training(data: ImageData, said: Said) -> str | None:
    """The data's name of the training split, which need not be among those to extract."""
    return None if data.single else match_splits(data.there(), said.names).get("train")


def _read(
    data: ImageData, splits: Mapping[str, str], said: Said, known: Known | None
) -> tuple[Reading, dict[str, Written]]:
    """How the labels of all splits are read."""
    # The training split has all classes; another may lack some.
    train = splits.get("train") or _training(data, said)
    labelled = {split: name for split, name in splits.items() if split not in ("open", "train")}
    if train is not None:
        labelled = {"train": train, **labelled}
    written = {split: data.written(name) for split, name in labelled.items()}
    if not written:
        return Reading("names", known.names if known else None, "classes.json"), {}
    names, origin = _names(said, known)
    kind = said.kind or (known.kind if known else None)
    # Archives are read through only where their first ones leave something open.
    if kind != "ids" and not all(one.whole for one in written.values()):
        values = {value for one in written.values() for value in one.values}
        ids = all(value.isascii() and value.isdigit() for value in values)
        if (names is None and not ids) or (names is not None and ids and values & set(names)):
            written = {s: data.written(n, whole=True) for s, n in labelled.items()}
    reading = read_labels(written, names=names, origin=origin, order=said.order, kind=kind)
    if known is not None:
        _require_same_order(reading, written, said, known)
    return reading, written


def _names(said: Said, known: Known | None) -> tuple[tuple[str, ...] | None, str]:
    """Class names that are known beforehand, and where they are from."""
    if said.class_map is None:
        return (None, "") if known is None else (known.names, known.order)
    names = read_class_map(said.class_map)
    if known is not None:
        _require_equal(names, known.names)
    return names, str(said.class_map)


def _require_same_order(
    reading: Reading, written: Mapping[str, Written], said: Said, known: Known
) -> None:
    """Check what the user or the data says of the order against an earlier extraction's."""
    if said.order is not None and reading.by == "names" and said.class_map is None:
        present = {value for one in written.values() for value in one.values}
        found = in_order(sorted(present), said.order)
        _require_equal(found, tuple(name for name in known.names if name in present))


def _require_equal(names: tuple[str, ...], expected: tuple[str, ...]) -> None:
    """Check that classes have the order of an earlier extraction.

    Raises:
        InputError: If not.
    """
    if names == expected:
        return
    pairs = zip(names, expected, strict=False)
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(names), len(expected)))
    raise InputError(
        "the classes have another order than in the splits before",
        got=f"{counted(len(names), 'class')}, class {at} is {_name(names, at)}",
        expected=f"{counted(len(expected), 'class')}, class {at} is {_name(expected, at)} "
        "(as classes.json says)",
        todo=f"use the same {option('class_order')} or {option('class_map')} for all splits, "
        f"or another {option('run')}",
    )


def _name(names: tuple[str, ...], at: int) -> str:
    return repr(names[at]) if at < len(names) else "none"
