"""Who pays: which classes the rare classes' gains come from, in samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alphafix.metrics.predictions import BeforeAfter
from alphafix.values.arrays import IntArray
from alphafix.values.classes import ClassTable


@dataclass(frozen=True)
class Pair:
    """A rare class and one that it takes samples from.

    Attributes:
        rare: The few-split class.
        other: The class it takes them from.
        lost: Samples of the other class that were right before and are taken for the rare one
            now: what the gain costs.
        won: Samples of the rare class that were taken for the other one before and are right now.
    """

    rare: int
    other: int
    lost: int
    won: int


def pairs(both: BeforeAfter, classes: ClassTable) -> list[Pair]:
    """All pairs of a rare class that gains and a class it takes samples from, dearest first."""
    labels, before, after = both.labels, both.before.predicted, both.after.predicted
    few = np.zeros(len(classes), dtype=np.bool_)
    few[classes.few] = True
    repaired = (before != labels) & (after == labels)
    broken = (before == labels) & (after != labels)
    net = np.bincount(labels[repaired], minlength=len(classes)) - np.bincount(
        labels[broken], minlength=len(classes)
    )
    gains = few & (net > 0)
    won = _counted(labels, before, repaired & gains[labels], len(classes))
    lost = _counted(after, labels, broken & gains[after], len(classes))
    found = [
        Pair(*divmod(key, len(classes)), lost.get(key, 0), won.get(key, 0))
        for key in {**won, **lost}
    ]
    return sorted(found, key=lambda one: (-one.lost, -one.won, one.rare, one.other))


def _counted(
    rare: IntArray, other: IntArray, which: np.ndarray, num_classes: int
) -> dict[int, int]:
    keys, counts = np.unique(rare[which] * num_classes + other[which], return_counts=True)
    return dict(zip(keys.tolist(), counts.tolist(), strict=True))
