"""How a mean is told with its deviation."""

from __future__ import annotations


def with_spread(mean: str, deviation: float, count: int, digits: int = 1) -> str:
    """A mean with ±, or alone where it is of one measurement, which has no deviation.

    Args:
        mean: As it is told.
        deviation: The standard deviation, or the standard error.
        count: Of how many measurements.
        digits: Of the deviation, behind the point.
    """
    return f"{mean} ± {deviation:.{digits}f}" if count > 1 else mean
