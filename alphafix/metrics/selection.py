"""Rules by which validation chooses among settings, and the offset of a setting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from alphafix.metrics.accuracy import Accuracy, harmonic_mean, harmonic_means
from alphafix.values.arrays import FloatArray64
from alphafix.values.classes import TIERS


@dataclass(frozen=True)
class Rule:
    """What is to be greatest on validation.

    Attributes:
        name: "overall", "few", "harmonic" or "constrained".
        base: Validation accuracy of the base model.
        max_overall_drop: For "constrained": percentage points of overall accuracy that may
            be lost.
    """

    name: str
    base: Accuracy
    max_overall_drop: float | None = None

    def goodness(self, accuracy: Accuracy) -> float | None:
        """The figure to be greatest, or None if ``accuracy`` is not allowed."""
        if self.name == "overall":
            return accuracy["overall"]
        if self.name == "harmonic":
            return harmonic_mean(accuracy)
        if self.name == "constrained" and self.drop(accuracy) > (self.max_overall_drop or 0.0):
            return None
        return accuracy["few"]

    def goodness_along(self, accuracy: Mapping[str, FloatArray64]) -> FloatArray64:
        """The same for many accuracies at once; NaN for what is not allowed.

        Args:
            accuracy: Percent for "few", "medium", "many" and "overall" of n candidates, each of
                shape n; NaN throughout for a tier without samples.
        """
        if self.name == "overall":
            return accuracy["overall"]
        if self.name == "harmonic":
            return harmonic_means(np.stack([accuracy[name] for name in TIERS]))
        if self.name != "constrained":
            return accuracy["few"]
        limit = self.max_overall_drop or 0.0
        drop = (self.base["overall"] or 0.0) - np.nan_to_num(accuracy["overall"])
        over = drop > limit
        # As `drop` rounds, which can matter only for what is this near to the limit.
        near = np.flatnonzero(np.abs(drop - limit) <= 1e-9)
        over[near] = [round(float(drop[place]), 9) > limit for place in near]
        return np.where(over, np.nan, accuracy["few"])

    def drop(self, accuracy: Accuracy) -> float:
        """Percentage points of overall accuracy lost against the base model."""
        # Counts of samples make exact ties with the limit; rounding must not fail them.
        return round((self.base["overall"] or 0.0) - (accuracy["overall"] or 0.0), 9)

    def describe(self) -> str:
        """What the rule asks for, in words."""
        return {
            "overall": "greatest overall accuracy on validation",
            "few": "greatest few-split accuracy on validation",
            "harmonic": "greatest harmonic mean of the splits' accuracies on validation",
            "constrained": "greatest few-split accuracy on validation with at most "
            f"{self.max_overall_drop} points of overall accuracy lost",
        }[self.name]
