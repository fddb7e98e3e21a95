"""Sums of features by class, in float64."""

from __future__ import annotations

import numpy as np

from alphafix.values.arrays import FloatArray, FloatArray64, IntArray

# Rows that are widened to float64 at a time.
_ROWS = 4096


class ClassSums:
    """Class sums and counts, accumulated batch by batch.

    Attributes:
        sums: float64 of shape C x D.
        counts: int64 of shape C.
    """

    def __init__(self, num_classes: int, width: int) -> None:
        self.sums = np.zeros((num_classes, width), dtype=np.float64)
        self.counts = np.zeros(num_classes, dtype=np.int64)

    def add(self, features: FloatArray | FloatArray64, labels: IntArray) -> None:
        """Add n x D features; samples with a negative label belong to no class."""
        for start in range(0, len(labels), _ROWS):
            self._add(features[start : start + _ROWS], labels[start : start + _ROWS])

    def _add(self, features: FloatArray | FloatArray64, labels: IntArray) -> None:
        # Sorted by class, so that each class is summed in one sweep: np.add.at is far slower.
        order = np.argsort(labels, kind="stable")
        order = order[np.searchsorted(labels[order], 0) :]
        if len(order) == 0:
            return
        classes, starts = np.unique(labels[order], return_index=True)
        rows = features[order].astype(np.float64)
        self.sums[classes] += np.add.reduceat(rows, starts, axis=0)
        self.counts[classes] += np.diff(np.append(starts, len(order)))
