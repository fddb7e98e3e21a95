"""Many classifiers on the same samples: their accuracies in common bootstrap draws."""

from __future__ import annotations

import numpy as np

from alphafix.metrics.accuracy import COLUMNS, members_of, tier_accuracy
from alphafix.metrics.bootstrap import Resampling, stratified_draws
from alphafix.values.arrays import BoolArray, FloatArray64, IntArray
from alphafix.values.classes import ClassTable

# Draws whose sample weights are held at a time.
DRAWS_AT_ONCE = 50


def accuracies(classes: ClassTable, labels: IntArray, correct: BoolArray) -> FloatArray64:
    """Top-1 of M classifiers in percent, float64 of shape M x 4 (NaN for an empty tier).

    Args:
        classes: The class table.
        labels: True classes, int64 of shape N.
        correct: Which classifier is right on which sample, bool of shape N x M.
    """
    found = [tier_accuracy(right, labels, classes) for right in correct.T]
    return np.array([[one[name] for name in COLUMNS] for one in found], dtype=np.float64)


def bootstrap_accuracies(
    classes: ClassTable, labels: IntArray, correct: BoolArray, resampling: Resampling
) -> FloatArray64:
    """`accuracies` of samples redrawn within classes, the same for all: draws x M x 4."""
    inside = members_of(classes)[:, labels]
    stream = stratified_draws(labels, resampling)
    table = np.full((resampling.draws, correct.shape[1], len(COLUMNS)), np.nan)
    for start in range(0, resampling.draws, DRAWS_AT_ONCE):
        rows = slice(start, min(start + DRAWS_AT_ONCE, resampling.draws))
        weights = np.empty((rows.stop - start, len(labels)), dtype=np.float32)
        for row in weights:
            row[:] = np.bincount(next(stream), minlength=len(labels))
        for column, mine in enumerate(inside):
            if mine.any():
                # Class sizes are the same in every draw, so the number of samples is too.
                hits = weights[:, mine] @ correct[mine].astype(np.float32)
                table[rows, :, column] = 100 * (hits.astype(np.float64) / mine.sum())
    return table
