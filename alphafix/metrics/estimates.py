"""A figure with its interval, and a figure before and after a correction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alphafix.metrics.bootstrap import interval
from alphafix.values.arrays import FloatArray64


@dataclass(frozen=True)
class Estimate:
    """A figure in percent with its 95% bootstrap interval.

    Attributes:
        value: The figure on all samples.
        low: Lower end of the interval.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float, low: float, high: float) -> Estimate | None:
        """An estimate, or None of what is not a number."""
        return None if np.isnan(value) else cls(float(value), float(low), float(high))


@dataclass(frozen=True)
class Paired:
    """A figure before and after the correction; None where a tier has no classes or samples.

    Attributes:
        base: The base head's figure.
        corrected: The corrected head's figure.
        change: Their paired difference, corrected minus base, in percentage points.
    """

    base: Estimate | None
    corrected: Estimate | None
    change: Estimate | None


def paired_estimates(point: FloatArray64, values: FloatArray64) -> list[Paired]:
    """S figures of base and corrected with their intervals.

    Args:
        point: Figures on all samples, float64 of shape 2 x S; NaN without samples.
        values: Their bootstrap values, float64 of shape draws x 2 x S.
    """
    points = np.stack([*point, point[1] - point[0]])
    low, high = interval(np.concatenate([values, values[:, 1:] - values[:, :1]], axis=1))
    return [
        Paired(*(Estimate.of(*one) for one in zip(*figure, strict=True)))
        for figure in zip(points.T, low.T, high.T, strict=True)
    ]
