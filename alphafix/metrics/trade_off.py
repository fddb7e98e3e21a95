"""One scalar on all few-split scores, chosen on validation.

An offset moves samples from the base classes to the few-split classes, so it makes the whole
trade-off reachable from one trained network. Accuracy changes only where the offset crosses
a sample's gap, so that the exact optimum is found by sorting the gaps once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alphafix.metrics.accuracy import COLUMNS, Accuracy, members_of
from alphafix.metrics.selection import Rule
from alphafix.values.arrays import BoolArray, FloatArray, FloatArray64, IntArray
from alphafix.values.classes import ClassTable

# Samples whose C logits are compared at a time.
CHUNK = 4096


@dataclass(frozen=True)
class Contest:
    """For each sample, the best few-split class against the best base class.

    Attributes:
        gap: Best base score minus best few-split score, float32 of shape n: a few-split class
            wins where an offset on all few-split scores exceeds it.
        few_right: Whether the best few-split class is the label, bool of shape n.
        base_right: Whether the best base class is the label, bool of shape n.
        labels: Class ids, int64 of shape n.
    """

    gap: FloatArray
    few_right: BoolArray
    base_right: BoolArray
    labels: IntArray

    @classmethod
    def of(cls, logits: FloatArray, labels: IntArray, few: IntArray) -> Contest:
        """The contest in n x C logits.

        Args:
            logits: Of n samples, n x C.
            labels: Their classes, int64 of shape n.
            few: Few-split class ids.
        """
        is_few = np.zeros(logits.shape[1], dtype=np.bool_)
        is_few[few] = True
        parts = []
        for start in range(0, len(logits), CHUNK):
            part, own = logits[start : start + CHUNK], labels[start : start + CHUNK]
            best_few = np.where(is_few, part, -np.inf)
            best_base = np.where(is_few, -np.inf, part)
            gap = (best_base.max(axis=1) - best_few.max(axis=1)).astype(np.float32)
            few_right, base_right = best_few.argmax(axis=1) == own, best_base.argmax(axis=1) == own
            parts.append(cls(gap, few_right, base_right, own))
        return cls.join(parts)

    @classmethod
    def join(cls, parts: Sequence[Contest]) -> Contest:
        """All samples of ``parts`` in order."""
        return cls(
            np.concatenate([part.gap for part in parts]),
            np.concatenate([part.few_right for part in parts]),
            np.concatenate([part.base_right for part in parts]),
            np.concatenate([part.labels for part in parts]),
        )

    def correct(self, offset: float = 0.0) -> BoolArray:
        """Whether each sample is predicted correctly with ``offset`` on few-split scores."""
        return np.where(self.gap < offset, self.few_right, self.base_right)


@dataclass(frozen=True)
class Curve:
    """Accuracy as a function of the offset.

    Attributes:
        offsets: Ascending offsets, one between any two neighbouring gaps (the first is below
            all, the last above all), float64.
        accuracy: Percent for "few", "medium", "many" and "overall" at each offset, float64;
            NaN throughout for a tier without samples.
    """

    offsets: FloatArray64
    accuracy: dict[str, FloatArray64]

    def at(self, position: int) -> Accuracy:
        """Accuracy at one of the offsets."""
        values = {name: float(curve[position]) for name, curve in self.accuracy.items()}
        return {name: None if np.isnan(value) else value for name, value in values.items()}

    def nearest(self, offset: float) -> int:
        """Position of the offset nearest to ``offset``."""
        return int(np.abs(self.offsets - offset).argmin())

    def outline(self, points: int = 12) -> list[dict[str, float | None]]:
        """Offsets and accuracies at steps of equal few-split gain, as JSON data."""
        few = np.nan_to_num(self.accuracy["few"])
        rising = np.maximum.accumulate(few)
        wanted = np.linspace(rising[0], rising[-1], points)
        places = np.unique(np.searchsorted(rising, wanted).clip(max=len(few) - 1))
        return [{"offset": float(self.offsets[i]), **self.at(int(i))} for i in places]


def trade_off(contest: Contest, classes: ClassTable) -> Curve:
    """Accuracy of each tier at every offset that makes a difference."""
    order = np.argsort(contest.gap, kind="stable")
    gaps = contest.gap[order].astype(np.float64)
    # Passing a sample's gap replaces the base classes' answer by the few-split classes'.
    change = contest.few_right[order].astype(np.int64) - contest.base_right[order]
    accuracy = {}
    for name, mine in zip(COLUMNS, members_of(classes)[:, contest.labels], strict=True):
        start = int(contest.base_right[mine].sum())
        correct = start + np.concatenate([[0], np.cumsum(np.where(mine[order], change, 0))])
        with np.errstate(invalid="ignore"):
            accuracy[name] = 100.0 * correct / np.float64(mine.sum())
    # Halfway between two gaps, so that rounding elsewhere cannot turn a prediction over. No
    # offset lies between equal gaps.
    offsets = np.concatenate([[gaps[0] - 1], (gaps[:-1] + gaps[1:]) / 2, [gaps[-1] + 1]])
    real = np.concatenate([[True], np.diff(gaps) > 0, [True]])
    return Curve(offsets[real], {name: curve[real] for name, curve in accuracy.items()})


def best_offset(curve: Curve, rule: Rule) -> int | None:
    """Position of the offset that the rule likes best, the one nearest to 0 among equals.

    Returns:
        None if the rule allows none.
    """
    goodness = rule.goodness_along(curve.accuracy)
    if np.isnan(goodness).all():
        return None
    best = np.flatnonzero(goodness == np.nanmax(goodness))
    return int(best[np.abs(curve.offsets[best]).argmin()])
