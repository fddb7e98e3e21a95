from __future__ import annotations

import numpy as np

from alphafix.metrics.predictions import BeforeAfter, Predictions
from alphafix.report.payers import Pair, pairs
from alphafix.values.classes import ClassTable

# Two few-split classes (0, 1) and two others.
CLASSES = ClassTable(("a", "b", "c", "d"), np.array([5, 6, 50, 500]))


def says(predicted: list[int]) -> Predictions:
    count = len(predicted)
    return Predictions(
        np.array(predicted), np.ones(count, dtype=bool), np.ones(count, dtype=np.float32)
    )


def test_pairs__by_hand() -> None:
    labels = np.array([0, 0, 0, 2, 2, 2, 3, 1, 2])
    before = says([2, 2, 3, 2, 2, 2, 3, 1, 3])
    after_ = says([0, 0, 0, 0, 2, 0, 0, 3, 0])
    found = pairs(BeforeAfter(labels, before, after_), CLASSES)
    # a wins two back from c and one from d, and takes two of c's and one of d's; b loses, and what
    # was wrong before is nobody's loss.
    assert found == [Pair(0, 2, lost=2, won=2), Pair(0, 3, lost=1, won=1)]


def test_pairs__none_where_nothing_changes() -> None:
    labels = np.array([0, 2])
    assert pairs(BeforeAfter(labels, says([2, 2]), says([2, 2])), CLASSES) == []
