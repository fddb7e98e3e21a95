"""What the user's own images say of arguments that weights do not tell.

Weights of a model that pools by the mean fit one that pools by the maximum as well. Labelled images
tell them apart: with the wrong argument the model is far worse on its own training images.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from alphafix.errors import InputError, Words, option_of
from alphafix.images.batches import BatchDataset, BatchKey
from alphafix.images.parts import Limited
from alphafix.metrics.mcnemar import mcnemar
from alphafix.models.arguments import written
from alphafix.models.extractor import Extractor
from alphafix.models.model import AmbiguousModelError
from alphafix.values.arrays import BoolArray, FloatArray64, IntArray

logger = logging.getLogger(__name__)

# Images that are tried at first, and where another variant is ahead on these.
FEW, MANY = 32, 256
# Probability of such a lead if neither is better (McNemar); some variants are tried.
_CLEARLY = 1e-3
# It is beyond doubt where a model right on so many of the images is right with the library's
# default on half of these at most, and that in class after class: images of a class are alike, so
# that its classes, not its images, are what a head that is not good yet may be lucky with.
_GOOD, _CERTAINLY = 0.75, 1e-6
_BATCH = 16

# A model that is wrong on most images of its own training, whatever its arguments, sees others than
# it was trained with, and may by chance do better with what is not its own.
_HALF = 0.5
_NEITHER = (
    "; but with neither is it right on half of the images: compare the transform and the order of "
    "the classes with those of training first"
)


@dataclass(frozen=True)
class Tried:
    """A model with some arguments, on some images.

    Attributes:
        args: The arguments.
        right: Whether it is right, bool of shape N.
        labels: The classes, int64 of shape N.
    """

    args: Mapping[str, Any]
    right: BoolArray
    labels: IntArray

    @property
    def accuracy(self) -> float:
        """Of all images."""
        return float(self.right.mean())

    def by_class(self) -> FloatArray64:
        """Accuracy of each class that has an image, in the order of their ids."""
        _, own = np.unique(self.labels, return_inverse=True)
        found: FloatArray64 = np.bincount(own, self.right) / np.bincount(own)
        return found

    @property
    def words(self) -> str:
        """The arguments, and how good it is with them."""
        return f"{_said(self.args)} {100 * self.accuracy:.1f}%"


def tell_best(extractor: Extractor, dataset: BatchDataset, *, spec: str, split: str) -> None:
    """Warn if other arguments, with which the weights fit too, are clearly better.

    That is no proof: a head that is not good yet may do better by chance with what it was not
    trained with. Where it is beyond doubt, the user is to say which it is.

    Args:
        extractor: The model as it is taken.
        dataset: Labelled images, as its transform gives them.
        spec: The specification of the backbone, for the message.
        split: The split that the images are of, likewise.

    Raises:
        InputError: If the model was beyond doubt made with other arguments than the library's
            defaults.
    """
    if extractor.variants is None:
        return
    tried: list[Tried] = []
    for limit in (FEW, MANY):
        tried = list(_tried(extractor, _images(dataset, limit)))
        if not tried or max(_lead(tried[0], other) for other in tried[1:]) <= 0:
            break
    if not tried:  # no labels, or the weights fit one model alone
        return
    own, best = tried[0], max(tried[1:], key=lambda other: int(other.right.sum()))
    figures = f"{', '.join(one.words for one in tried)} of {len(own.right)} images of {split}"
    logger.info("right with %s", figures)
    if _beyond_doubt(own, best):
        raise InputError(
            f"{spec} was made with other arguments than the library's defaults, which its weights "
            "do not tell",
            got=f"right with {figures}",
            expected="a model that is better as it was made than as it was not",
            todo=f"give {_flags(best.args)}, or {_flags(own.args)} if it is right all the same",
        )
    if _lead(own, best) > 0 and mcnemar(own.right, best.right).p < _CLEARLY:
        logger.warning(
            "%s fits the labels far better with another argument, which its weights do not tell: "
            "give %s if yours was trained so (%s is the library's default)%s",
            spec,
            Words(_flags(best.args)),
            _said(own.args),
            "" if best.accuracy >= _HALF else _NEITHER,
        )


def _beyond_doubt(own: Tried, best: Tried) -> bool:
    """Whether another variant is so much better that the model cannot be this one."""
    if best.accuracy < _GOOD or own.accuracy > best.accuracy / 2:
        return False
    before, after = own.by_class(), best.by_class()
    return mcnemar(before > after, after > before).p < _CERTAINLY


def with_figures(
    error: AmbiguousModelError, tried: Iterable[tuple[Mapping[str, Any], Extractor, BatchDataset]]
) -> InputError:
    """The error of a model that is to be said more of, with what each choice gives.

    Args:
        error: The error.
        tried: Each choice, the model with it, and labelled images.
    """
    found = [
        Tried(args, np.concatenate([own for own, _ in some]), np.concatenate([y for _, y in some]))
        for args, extractor, dataset in tried
        if (some := list(_answers(extractor, _images(dataset, FEW))))
    ]
    figures = ", ".join(one.words for one in found)
    return error.but(f"right with {figures} of {len(found[0].right)} images") if found else error


def _images(dataset: BatchDataset, limit: int) -> Iterator[tuple[Any, Any]]:
    """Some labelled images, spread over all, in batches with their labels."""
    source = Limited(dataset.source, limit)
    spread = BatchDataset(source, dataset.transform, exif_rotate=dataset.exif_rotate)
    for group in range(source.groups):
        size = source.size(group)
        for start in range(0, size, _BATCH):
            batch = spread[BatchKey(group, start, min(start + _BATCH, size))]
            known = batch.labels >= 0
            if batch.images is not None and not isinstance(batch.images, list) and known.any():
                yield batch.images[known], batch.labels[known].numpy()


def _answers(
    extractor: Extractor, images: Iterator[tuple[Any, Any]]
) -> Iterator[tuple[BoolArray, IntArray]]:
    for batch, labels in images:
        features = extractor(batch).float().cpu().numpy()
        yield extractor.head.predict(features) == labels, labels


def _tried(extractor: Extractor, images: Iterator[tuple[Any, Any]]) -> Iterator[Tried]:
    right: dict[tuple[str, ...], list[BoolArray]] = {}
    args: dict[tuple[str, ...], Mapping[str, Any]] = {}
    classes: list[IntArray] = []
    for batch, labels in images:
        classes.append(labels)
        for own, logits in extractor.of_variants(batch):
            name = written(own)
            args[name] = own
            right.setdefault(name, []).append(logits.argmax(axis=1) == labels)
    if len(right) > 1:
        for name, parts in right.items():
            yield Tried(args[name], np.concatenate(parts), np.concatenate(classes))


def _lead(own: Tried, other: Tried) -> int:
    return int(other.right.sum()) - int(own.right.sum())


def _said(args: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in args.items())


def _flags(args: Mapping[str, Any]) -> str:
    return option_of("model_arg", (f"{name}={value}" for name, value in args.items()))
