"""One scalar on all few-split scores, chosen on validation.

An offset moves samples from the base classes to the few-split classes, so it makes the whole
trade-off reachable from one trained network. Accuracy changes only where the offset crosses
a sample's gap, so that the exact optimum is found by sorting the gaps once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alphafix.metrics.accuracy import COLUMNS, members_of
from alphafix.values.arrays import BoolArray, FloatArray, FloatArray64, IntArray
from alphafix.values.classes import ClassTable
from alphafix.values.curve import Curve

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
        base = np.setdiff1d(np.arange(logits.shape[1]), few)
        parts = []
        for start in range(0, len(logits), CHUNK):
            part, own = logits[start : start + CHUNK], labels[start : start + CHUNK]
            every = np.arange(len(part))
            best_few, best_base = (ids[part[:, ids].argmax(axis=1)] for ids in (few, base))
            gap = (part[every, best_base] - part[every, best_few]).astype(np.float32)
            parts.append(cls(gap, best_few == own, best_base == own, own))
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
class Path:
    """A classifier as a candidate, with every offset that its few-split scores may get.

    Attributes:
        contest: The classifier at offset 0, on n samples.
        free: Whether any offset may be chosen; else it is 0.
    """

    contest: Contest
    free: bool = False

    def offsets(self) -> FloatArray64:
        """Ascending offsets, one between any two gaps whose crossing changes a result."""
        if not self.free:
            return np.zeros(1)
        contest = self.contest
        return _between(contest.gap[contest.few_right != contest.base_right].astype(np.float64))


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
    real = np.concatenate([[True], np.diff(gaps) > 0, [True]])
    return Curve(
        _between(gaps), np.unique(gaps), {name: curve[real] for name, curve in accuracy.items()}
    )


def _between(gaps: FloatArray64) -> FloatArray64:
    """Ascending offsets, one between any two different gaps, one below and one above all.

    Halfway, so that rounding elsewhere cannot turn a prediction over.
    """
    gaps = np.unique(gaps)
    if not len(gaps):
        return np.zeros(1)
    return np.concatenate([[gaps[0] - 1], (gaps[:-1] + gaps[1:]) / 2, [gaps[-1] + 1]])
