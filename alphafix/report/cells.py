"""How a figure is written in a table."""

from __future__ import annotations

from collections.abc import Mapping

from alphafix.metrics.estimates import Estimate, Paired
from alphafix.values.display import Cell

LABELS = {
    "top1": "top-1",
    "top5": "top-5",
    "macro": "mean class accuracy",
    "macro_f1": "macro-F1",
    "ece": "calibration error (ECE)",
    "grouped": "top-1 within groups",
    "worst_class": "lowest class accuracy",
    "harmonic_mean": "harmonic mean of splits",
}
"""What each measure is called."""

FALLING = ("ece", "detection_error", "unknown_accepted")
"""Measures of which less is better."""

OPEN_LABELS = {
    "f_measure": "open set: F-measure",
    "f_measure_old": "open set: F-measure, old form",
    "auroc": "open set: AUROC",
    "detection_error": "open set: detection error",
    "known_accepted": "open set: known accepted",
    "unknown_accepted": "open set: unknown accepted",
}
"""What each open-set figure is called."""


def number(value: float | None, form: str = ".1f") -> str:
    """A figure alone: "47.3"."""
    return "n/a" if value is None else format(value, form)


def change(before: float | None, after: float | None) -> str:
    """A difference: "+1.2"."""
    if before is None or after is None:
        return number(None)
    return Cell(number(after - before, "+.1f"), tone=_sign(after - before))


def over_seeds(found: Mapping[str, float | None] | None) -> str:
    """A mean with its standard deviation (`OverSeeds.to_dict`): "47.3 ± 1.2"."""
    if found is None:
        return number(None)
    if found["sd"] is None:
        return number(found["mean"])
    return Cell(f"{number(found['mean'])} ± {number(found['sd'])}", number(found["mean"]))


def estimate(found: Estimate | None, *, sign: bool = False, falls: bool = False) -> str:
    """A figure with its interval: "47.3 [44.1, 50.2]".

    Args:
        found: The figure; None if it could not be measured.
        sign: Whether it is a change.
        falls: Whether less of it is better.
    """
    if found is None:
        return "n/a"
    form = "{:+.1f}" if sign else "{:.1f}"
    value, low, high = (form.format(x + 0.0) for x in (found.value, found.low, found.high))
    # What an interval around 0 says is that nothing could be shown.
    sure = not found.low <= 0 <= found.high
    tone = _sign(-found.value if falls else found.value) * sure if sign else None
    return Cell(f"{value} [{low}, {high}]", value, tone)


def _sign(change: float) -> int:
    """Of a change as it is shown, with one digit."""
    return 1 if change >= 0.05 else -1 if change <= -0.05 else 0


def paired(found: Paired, *, falls: bool = False) -> list[str]:
    """Base, corrected and change with their intervals, or n/a; ``falls`` if less is better."""
    return [
        estimate(found.base),
        estimate(found.corrected),
        estimate(found.change, sign=True, falls=falls),
    ]


def p_value(p: float) -> str:
    """A probability, short."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"
