"""The splits that are to be extracted, with one class order for all of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alphafix.errors import InputError, option
from alphafix.images.data import SPLITS, ImageData, require_split
from alphafix.images.order import ClassOrder, in_order, read_class_map
from alphafix.images.source import ImageSource, Limited
from alphafix.values.labels import class_counts

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SplitSources:
    """Images by split.

    Attributes:
        sources: The images of each split.
        names: C class names in the order of the logits, or None if labels are bare numbers.
    """

    sources: dict[str, ImageSource]
    names: tuple[str, ...] | None

    def check_classes(self, num_classes: int, own_names: tuple[str, ...] | None = None) -> None:
        """Check names and labels against the model's.

        Args:
            num_classes: C.
            own_names: Class names in the order of the logits, if the model says so.

        Raises:
            InputError: If the numbers differ, a label is out of range, or the model has the
                same names in another order.
        """
        if self.names is not None and len(self.names) != num_classes:
            raise InputError(
                "the data and the model differ in their number of classes",
                got=f"{len(self.names)} class names ({self.names[0]!r} to {self.names[-1]!r}), "
                f"a head of {num_classes} rows",
                expected="as many",
                todo=f"give the names of all the model's classes with {option('class_map')}; "
                "classes of the data that the model does not know belong into the split open",
            )
        if self.names is not None and own_names is not None:
            _check_own_order(self.names, own_names)
        for split, source in self.sources.items():
            labels = source.known_labels
            wrong = np.zeros(0) if labels is None else (labels < -1) | (labels >= num_classes)
            if labels is not None and wrong.any():
                first = int(np.argmax(wrong))
                raise InputError(
                    f"{int(wrong.sum())} labels of {split} are out of range",
                    got=f"label {labels[first]} of {source.sample(0, first).id}",
                    expected=f"0..{num_classes - 1}, as the model has {num_classes} classes",
                    todo="check that labels count from 0, and that the model is the right one",
                )

    def tell(self, num_classes: int) -> None:
        """Say what was found, before the long work starts."""
        for split, source in self.sources.items():
            labels = source.known_labels
            if labels is None:
                logger.info("%s: %d archives", split, source.groups)
                continue
            counts = class_counts(labels, num_classes)
            if not counts.any():
                logger.info("%s: %s images of no known class", split, f"{len(labels):,}")
                continue
            numbers = (len(labels), counts.min(), counts.max(), num_classes)
            logger.info(
                "%s: %s images, %s to %s of each of %s classes",
                *(split, *(f"{number:,}" for number in numbers)),
            )


def _check_own_order(names: tuple[str, ...], own: tuple[str, ...]) -> None:
    if set(names) == set(own) and names != own:
        at = next(i for i, (a, b) in enumerate(zip(names, own, strict=True)) if a != b)
        raise InputError(
            "the classes have another order than the model's own",
            got=f"class {at} is {names[at]!r}",
            expected=f"class {at} is {own[at]!r}, as the model's config says",
            todo=f"give the names in the model's order with {option('class_map')}",
        )


def choose_splits(data: ImageData, wanted: str, spec: str) -> tuple[str, ...]:
    """Return the splits to extract.

    Args:
        data: The data set.
        wanted: Their names, with commas; "" for train, and val and test if they are there.
        spec: What the user named it by.

    Raises:
        InputError: If a name is unknown, or there is no such split.
    """
    names = tuple(name.strip() for name in wanted.split(",") if name.strip())
    unknown = [name for name in names if name not in SPLITS]
    if unknown:
        raise InputError(
            "an unknown split",
            got=unknown[0],
            expected=", ".join(SPLITS),
            todo=f"correct {option('split')}",
        )
    chosen = names or tuple(dict.fromkeys(("train", *data.splits())))
    if data.single and len(chosen) > 1:
        raise InputError(
            f"{spec} is the data of one split",
            got=option("split", ",".join(chosen)),
            expected="one split a command, or a path with {split} in it",
            todo=f"for example: {option('data', 'data/{split}.txt')}",
        )
    for split in chosen:
        require_split(data, split, spec)
    return chosen


def open_splits(
    data: ImageData,
    splits: Sequence[str],
    *,
    known: tuple[str, ...] | None = None,
    order: ClassOrder | None = None,
    class_map: Path | None = None,
    limit: int | None = None,
) -> SplitSources:
    """Open the splits under one class order.

    Args:
        data: The data set.
        splits: Which of its splits.
        known: Class names of an earlier extraction, whose order is to be kept.
        order: Order of class names in the logits, if the user gave it.
        class_map: File with the class names in their order, if the user gave one.
        limit: Largest number of images a split.

    Raises:
        InputError: If the order is not certain, another one was used before, or a split is
            empty.
    """
    names = _class_names(data, splits, known, order, class_map)
    sources: dict[str, ImageSource] = {}
    for split in splits:
        source = data.source(split, names)
        if source.known_size == 0:
            raise InputError(
                f"the split {split} holds no images",
                got="0 images",
                expected="at least one",
                todo=f"correct {option('data')} or {option('split')}",
            )
        sources[split] = source if limit is None else Limited(source, limit)
    return SplitSources(sources, names)


def _class_names(
    data: ImageData,
    splits: Sequence[str],
    known: tuple[str, ...] | None,
    order: ClassOrder | None,
    class_map: Path | None,
) -> tuple[str, ...] | None:
    if class_map is not None:
        return _agreeing(read_class_map(class_map), known, every=True)
    # The training split has all classes; another may lack some.
    first = "train" if data.has("train") else splits[0]
    own = data.class_names(first) if first != "open" else None
    if own is None:
        return known
    if own.numbered:
        return _agreeing(own.names, known, every=True)
    if known is None:
        return in_order(own.names, order)
    if order is not None:
        _agreeing(in_order(own.names, order), known, every=False)
    return known


def _agreeing(
    names: tuple[str, ...], known: tuple[str, ...] | None, *, every: bool
) -> tuple[str, ...]:
    """Return ``names`` if they have the order of ``known`` (all of them with ``every``)."""
    if known is None:
        return names
    present = set(names)
    expected = known if every else tuple(name for name in known if name in present)
    if names != expected:
        pairs = zip(names, expected, strict=False)
        at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(names), len(expected)))
        raise InputError(
            "the classes have another order than in the splits before",
            got=f"{len(names)} classes, class {at} is {_name(names, at)}",
            expected=f"{len(expected)} classes, class {at} is {_name(expected, at)} "
            "(as classes.json says)",
            todo=f"use the same {option('class_order')} or {option('class_map')} for all splits, "
            f"or another {option('run')}",
        )
    return names


def _name(names: tuple[str, ...], at: int) -> str:
    return repr(names[at]) if at < len(names) else "none"
