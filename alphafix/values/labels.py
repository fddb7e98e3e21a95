"""Samples by their class."""

from __future__ import annotations

import numpy as np

from alphafix.values.arrays import IntArray


def positions_by_class(labels: IntArray, num_classes: int) -> list[IntArray]:
    """Where the samples of each class are, ascending.

    Args:
        labels: Class ids of N samples, int64; a negative one belongs to no class.
        num_classes: C; every label is below it.

    Returns:
        C arrays of positions in ``labels``, int64; empty for a class without samples.
    """
    order = np.argsort(labels, kind="stable").astype(np.int64)
    ends = np.searchsorted(labels[order], np.arange(num_classes + 1))
    return np.split(order, ends)[1:-1]
