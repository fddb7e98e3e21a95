"""Limits that a correction must keep, for a release or a build to go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alphafix.metrics.evaluation import Estimate, Evaluation

# Percentages are quotients, so that 4.999999999999996 may stand for a gain of exactly 5.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Gates:
    """Limits in percentage points of top-1 accuracy; None is no limit.

    Attributes:
        min_few_gain: The few split must gain at least this much.
        max_overall_drop: All classes together may lose at most this much.
        max_base_drop: Medium and many classes together may lose at most this much.
        max_class_drop: No single class may lose more than this.
        confident: Hold the worse end of the change's 95% interval to the limit, instead of
            the change itself.
    """

    min_few_gain: float | None = None
    max_overall_drop: float | None = None
    max_base_drop: float | None = None
    max_class_drop: float | None = None
    confident: bool = False


@dataclass(frozen=True)
class Outcome:
    """One gate, met or not.

    Attributes:
        gate: Its flag, such as "--min-few-gain".
        limit: Its limit in points.
        value: The gain or drop that was held against it; None if it could not be measured,
            which does not meet a gate.
        met: Whether the limit is kept.
        line: All of this in words.
    """

    gate: str
    limit: float
    value: float | None
    met: bool
    line: str


def check_gates(evaluation: Evaluation, gates: Gates) -> list[Outcome]:
    """Hold an evaluation against limits; one outcome for each limit that is set."""
    outcomes = []
    if gates.min_few_gain is not None:
        outcomes.append(_gain(evaluation, gates.min_few_gain, gates.confident))
    for split, limit in (("overall", gates.max_overall_drop), ("base", gates.max_base_drop)):
        if limit is not None:
            outcomes.append(_drop(evaluation, split, limit, gates.confident))
    if gates.max_class_drop is not None:
        outcomes.append(_class_drop(evaluation, gates.max_class_drop, gates.confident))
    return outcomes


def failed(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes that do not meet their gate."""
    return [outcome for outcome in outcomes if not outcome.met]


def _gain(evaluation: Evaluation, limit: float, confident: bool) -> Outcome:
    change = evaluation.tier("few").figures["top1"].change
    value = None if change is None else change.low if confident else change.value
    met = value is not None and value >= limit - ROUNDING
    return Outcome(
        "--min-few-gain",
        limit,
        value,
        met,
        _line("few-split gain", value, "at least", limit, met) + _interval(change, confident),
    )


def _drop(evaluation: Evaluation, split: str, limit: float, confident: bool) -> Outcome:
    change = evaluation.tier(split).figures["top1"].change
    value = None if change is None else -(change.low if confident else change.value)
    met = value is not None and value <= limit + ROUNDING
    line = _line(f"{split} drop", value, "at most", limit, met) + _interval(change, confident)
    return Outcome(f"--max-{split}-drop", limit, value, met, line)


def _class_drop(evaluation: Evaluation, limit: float, confident: bool) -> Outcome:
    found = evaluation.by_class
    change = found.low if confident else found.change
    worst = int(np.nanargmin(change))  # an evaluation has at least one sample
    value = float(-change[worst])
    name = evaluation.classes.names[worst]
    over = int((-change[~np.isnan(change)] > limit + ROUNDING).sum())
    met = value <= limit + ROUNDING
    line = _line(f"largest drop of a class ({name})", value, "at most", limit, met)
    more = f"; {over} classes drop more than {limit:g}" if over > 1 else ""
    return Outcome("--max-class-drop", limit, value, met, line + more)


def _line(what: str, value: float | None, relation: str, limit: float, met: bool) -> str:
    shown = "n/a (0 samples)" if value is None else f"{value:.2f} points"
    return f"{what} {shown}, {'' if met else 'not '}{relation} {limit:g}"


def _interval(change: Estimate | None, confident: bool) -> str:
    if change is None or not confident:
        return ""
    return f" (change {change.value:+.2f}, 95% interval {change.low:+.2f} to {change.high:+.2f})"
