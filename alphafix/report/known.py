"""Which classes a page knows: all of them, or of very many those that its samples tell of."""

from __future__ import annotations

import numpy as np

from alphafix.values.arrays import FloatArray64, IntArray

# Up to so many classes, a page has them all.
ALL_CLASSES = 10_000


def known_classes(num_classes: int, *told: IntArray) -> IntArray:
    """Classes that the page numbers anew, as places in this array; ascending.

    Args:
        num_classes: C. Up to `ALL_CLASSES`, all are known, and the numbers are their ids.
        told: Class ids that the page says something of.
    """
    if num_classes <= ALL_CLASSES:
        return np.arange(num_classes)
    return np.unique(np.concatenate([ids.ravel() for ids in told]))


def listed_classes(samples: IntArray, change: FloatArray64) -> IntArray:
    """Classes of the table of classes, ascending: all, or of those with samples what changed most.

    Args:
        samples: Samples of each class, int64 of shape C.
        change: Its change of accuracy, float64 of shape C; NaN without samples.
    """
    if len(samples) <= ALL_CLASSES:
        return np.arange(len(samples))
    own = np.flatnonzero(samples)
    order = np.argsort(-np.abs(np.nan_to_num(change[own])), kind="stable")
    return np.sort(own[order[:ALL_CLASSES]])
