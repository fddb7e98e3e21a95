"""Many classifiers on the same samples: their accuracies in common bootstrap draws."""

from __future__ import annotations

import numpy as np

from alphafix.metrics.bootstrap import stratified_draws
from alphafix.values.arrays import BoolArray, FloatArray, FloatArray64, IntArray
from alphafix.values.classes import ClassTable

COLUMNS = ("few", "medium", "many", "overall")
"""The splits, in the order of the last axis of `accuracies` and `bootstrap_accuracies`."""

# Draws whose sample weights are held at a time.
DRAWS_AT_ONCE = 50


def accuracies(classes: ClassTable, labels: IntArray, correct: BoolArray) -> FloatArray64:
    """Top-1 of M classifiers in percent, float64 of shape M x 4 (NaN for an empty split).

    Args:
        classes: The class table.
        labels: True classes, int64 of shape N.
        correct: Which classifier is right on which sample, bool of shape N x M.
    """
    weights = np.ones((1, len(labels)), dtype=np.float32)
    return np.asarray(_weighted(weights, _members(classes, labels), correct)[0])


def bootstrap_accuracies(
    classes: ClassTable, labels: IntArray, correct: BoolArray, *, draws: int, seed: int
) -> FloatArray64:
    """`accuracies` of samples redrawn within classes, the same for all: draws x M x 4."""
    members = _members(classes, labels)
    stream = stratified_draws(labels, draws, seed)
    parts = []
    for start in range(0, draws, DRAWS_AT_ONCE):
        count = min(DRAWS_AT_ONCE, draws - start)
        weights = np.empty((count, len(labels)), dtype=np.float32)
        for row in range(count):
            weights[row] = np.bincount(next(stream), minlength=len(labels))
        parts.append(_weighted(weights, members, correct))
    return np.concatenate(parts)


def _members(classes: ClassTable, labels: IntArray) -> BoolArray:
    """Which sample is in which split, bool of shape 4 x N."""
    return np.stack([np.isin(labels, classes.tier(name)) for name in COLUMNS])


def _weighted(weights: FloatArray, members: BoolArray, correct: BoolArray) -> FloatArray64:
    table = np.full((len(weights), correct.shape[1], len(members)), np.nan)
    for place, inside in enumerate(members):
        if inside.any():
            # Class sizes are the same in every draw, so the number of samples is too.
            hits = weights[:, inside] @ correct[inside].astype(np.float32)
            table[:, :, place] = 100.0 * hits / inside.sum()
    return table
