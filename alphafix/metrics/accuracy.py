"""Top-1 accuracy by few, medium, many and overall."""

from __future__ import annotations

from collections.abc import Mapping

from alphafix.values.arrays import BoolArray, IntArray
from alphafix.values.classes import TIERS, ClassTable

Accuracy = Mapping[str, "float | None"]
"""Top-1 accuracy in percent of "few", "medium", "many" and "overall"; None without samples."""


def tier_accuracy(correct: BoolArray, labels: IntArray, classes: ClassTable) -> Accuracy:
    """Top-1 accuracy in percent of each split and overall, over samples.

    Args:
        correct: Whether each sample is predicted correctly, bool of shape N.
        labels: Its class id, int64 of shape N.
        classes: Which class is in which split.
    """
    split_of = classes.tiers[labels]
    found: dict[str, float | None] = {}
    for code, name in enumerate(TIERS):
        mine = correct[split_of == code]
        found[name] = 100 * float(mine.mean()) if len(mine) else None
    found["overall"] = 100 * float(correct.mean()) if len(correct) else None
    return found


def harmonic_mean(accuracy: Accuracy) -> float:
    """Harmonic mean of the accuracies of the splits that have samples."""
    values = [accuracy[name] for name in TIERS]
    known = [value for value in values if value is not None]
    if not known or min(known) == 0:
        return 0.0
    return len(known) / sum(1 / value for value in known)
