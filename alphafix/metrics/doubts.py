"""Whether a base head fits its labels at all: what is told before anything is built on it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from alphafix.errors import option, some
from alphafix.features.features import Features
from alphafix.metrics.circles import circles_of, log_chance, log_chance_of_circles, own_wins
from alphafix.shown import in_list
from alphafix.values.arrays import IntArray
from alphafix.values.head import Head

# Few samples can be all wrong by chance.
_ENOUGH, _ENOUGH_IF_ALL_WRONG = 20, 8
# Samples on circles of which chance explains few things.
_MANY = 30
# Share of the classes that a mix-up moves or leaves in place.
_MOST_CLASSES = 0.6
# How likely it may be, where classes only look alike, that so many samples are wrong.
_CHANCE = 0.005


@dataclass(frozen=True)
class Hits:
    """What a head predicts rightly.

    Attributes:
        right: Samples of each class that are predicted rightly, int64 of shape C.
        samples: Samples of each class, int64 of shape C.
    """

    right: IntArray
    samples: IntArray

    @property
    def accuracy(self) -> float:
        """Share of the samples that are right; 0 without samples."""
        return int(self.right.sum()) / max(1, int(self.samples.sum()))


def near_chance(hits: Hits) -> bool:
    """Whether a head does about as well as guessing: at most 3 / C, and 1 / C + 0.1 for small C."""
    samples = int(hits.samples.sum())
    chance = 1 / len(hits.samples)
    enough = samples >= (_ENOUGH if hits.right.any() else _ENOUGH_IF_ALL_WRONG)
    return enough and hits.accuracy <= min(3 * chance, chance + 0.1)


def mixed_up(head: Head, samples: Features, hits: Hits) -> IntArray:
    """Which class each class seems to be, if labels and head differ by a permutation.

    The mean of a class's features is predicted as the class that the model was taught it is. Where
    classes change places with each other in that (a circle of two or more classes), most others
    stay in their own, and samples of the former are wrong so often that those of classes which only
    look alike would hardly be by chance (see `log_chance`), labels are numbered otherwise than the
    head's rows. The few samples of a class may all be of one kind, and the head may know nothing of
    these classes: of few samples on circles (a class that stays is one, too) the classes alone are
    counted, of which by chance so many may lead back to themselves.

    Args:
        head: The head.
        samples: N samples; beside their means some of them are read where there are such circles.
        hits: What the head predicts rightly of them.

    Returns:
        int64 of shape C: the class as which it is predicted; its own id for a class that is in no
        circle, and for all classes if it is no permutation.
    """
    means = samples.class_means()
    own = np.arange(len(means), dtype=np.int64)
    known = np.flatnonzero(~np.isnan(means).any(axis=1))
    predicted = np.full(len(means), -1, dtype=np.int64)
    predicted[known] = head.predict(means[known].astype(np.float32))
    # Where steps from class to predicted class lead for ever is on a circle.
    circle, before = _step(predicted, known), len(known) + 1
    while len(circle) < before:
        circle, before = _step(predicted, circle), len(circle)
    moved = circle[predicted[circle] != circle]
    if len(moved) < 2 or len(circle) < _MOST_CLASSES * len(known):
        return own
    if hits.right[moved].sum() > hits.samples[moved].sum() / 2:
        return own
    found = own.copy()
    found[moved] = predicted[moved]
    wins, of = own_wins(head, samples, found, moved)
    chance = log_chance(circles_of(predicted, circle), wins, of, len(known))
    if hits.samples[circle].sum() < _MANY:
        chance = max(chance, log_chance_of_circles(len(circle), len(known), len(means)))
    return found if chance <= math.log(_CHANCE) else own


def _step(predicted: IntArray, classes: IntArray) -> IntArray:
    """As which classes some classes are predicted, each once; unknown ones (-1) left out."""
    found: IntArray = np.unique(predicted[classes])
    return found[found >= 0]


def doubts(
    head: Head, names: tuple[str, ...], splits: Mapping[str, Hits], samples: Features
) -> list[str]:
    """What speaks against a base head, in sentences; none if nothing does.

    Args:
        head: The base head.
        names: C class names.
        splits: What it predicts rightly, by split.
        samples: The N samples of the first split.
    """
    places = mixed_up(head, samples, next(iter(splits.values())))
    moved = np.flatnonzero(places != np.arange(len(places)))
    if len(moved):
        pairs = [
            f"{in_list(names[label])} is predicted as {in_list(names[places[label]])}"
            for label in moved
        ]
        return [
            f"predictions look like a permutation of the labels ({len(moved)} of {len(names)} "
            f"classes: {some(pairs, 3)}): the model's order of classes is probably another one; "
            f"give it with {option('class_map', 'FILE')} or {option('class_order')}"
        ]
    return chance_doubts(
        splits,
        "labels, head or transform are probably not those of training; compare "
        f"the classes' order ({option('class_map')}, {option('class_order')}) and the transform "
        f"({option('mean')}, {option('std')}, {option('image_size')}, {option('crop_pct')})",
    )


def chance_doubts(
    splits: Mapping[str, Hits],
    reason: str = "labels, features and head probably do not belong together; compare the order "
    "of the classes, and the transform, with those of training",
) -> list[str]:
    """The splits on which a base head does about as well as guessing, in sentences.

    Args:
        splits: What it predicts rightly, by split.
        reason: Why that is so, probably.
    """
    return [
        f"the base head is right on {100 * hits.accuracy:.1f}% of {split}, which is about chance "
        f"({100 / len(hits.samples):.3g}%): {reason}"
        for split, hits in splits.items()
        if near_chance(hits)
    ]
