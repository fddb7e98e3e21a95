"""Limits that a correction must keep, for a release or a build to go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from alphafix.errors import counted, on_command_line
from alphafix.metrics.estimates import Estimate
from alphafix.metrics.evaluation import Evaluation
from alphafix.metrics.figures import tier_name

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
class GateResult:
    """One limit, kept or not.

    Attributes:
        gate: Its name, a field of `Gates`.
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

    @property
    def flag(self) -> str:
        """The gate as a user of the command line, or of a CI system, knows it."""
        return on_command_line(None, ((self.gate, None),))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        return {**asdict(self), "gate": self.flag}


def check_gates(evaluation: Evaluation, gates: Gates) -> list[GateResult]:
    """Hold an evaluation against limits; one result for each limit that is set."""
    results = []
    if gates.min_few_gain is not None:
        results.append(_gain(evaluation, gates.min_few_gain, gates.confident))
    for tier, limit in (("overall", gates.max_overall_drop), ("base", gates.max_base_drop)):
        if limit is not None:
            results.append(_drop(evaluation, tier, limit, gates.confident))
    if gates.max_class_drop is not None:
        results.append(_class_drop(evaluation, gates.max_class_drop, gates.confident))
    return results


def failed(results: Sequence[GateResult]) -> list[GateResult]:
    """The results that do not meet their gate."""
    return [result for result in results if not result.met]


def _gain(evaluation: Evaluation, limit: float, confident: bool) -> GateResult:
    change = evaluation.tier("few").figures["top1"].change
    value = None if change is None else change.low if confident else change.value
    met = value is not None and value >= limit - ROUNDING
    return GateResult(
        "min_few_gain",
        limit,
        value,
        met,
        _line("few-split gain", value, "at least", limit, met) + _interval(change, confident),
    )


def _drop(evaluation: Evaluation, tier: str, limit: float, confident: bool) -> GateResult:
    change = evaluation.tier(tier).figures["top1"].change
    value = None if change is None else -(change.low if confident else change.value)
    met = value is not None and value <= limit + ROUNDING
    line = _line(f"{tier_name(tier)} drop", value, "at most", limit, met) + _interval(
        change, confident
    )
    return GateResult(f"max_{tier}_drop", limit, value, met, line)


def class_drops(evaluation: Evaluation, limit: float) -> str:
    """The largest drop of a class, and how many drop more than ``limit`` points, in words."""
    name, value, over = _class_drops(evaluation, limit, confident=False)
    more = f"{counted(over, 'class')} drop{'s' if over == 1 else ''}" if over else "none drops"
    return f"largest drop of a class ({name}) {_shown(value)}; {more} more than {limit:g}"


def _class_drop(evaluation: Evaluation, limit: float, confident: bool) -> GateResult:
    name, value, over = _class_drops(evaluation, limit, confident=confident)
    met = value <= limit + ROUNDING
    line = _line(f"largest drop of a class ({name})", value, "at most", limit, met)
    more = f"; {counted(over, 'class')} drop more than {limit:g}" if over > 1 else ""
    return GateResult("max_class_drop", limit, value, met, line + more)


def _class_drops(
    evaluation: Evaluation, limit: float, *, confident: bool
) -> tuple[str, float, int]:
    """The class that drops most, by how many points, and how many drop more than ``limit``."""
    found = evaluation.by_class
    change = found.low if confident else found.change
    worst = int(np.nanargmin(change))  # an evaluation has at least one sample
    over = int((-change[~np.isnan(change)] > limit + ROUNDING).sum())
    return evaluation.classes.names[worst], float(-change[worst]), over


def _line(what: str, value: float | None, relation: str, limit: float, met: bool) -> str:
    shown = "n/a (0 samples)" if value is None else _shown(value, gain="gain" in what)
    return f"{what} {shown}, {'' if met else 'not '}{relation} {limit:g}"


def _shown(value: float, *, gain: bool = False) -> str:
    if value < 0:  # whoever reads of a drop of -3 points has to think twice
        return f"none (a {'drop' if gain else 'gain'} of {-value:.2f} points)"
    return f"{value:.2f} points"


def _interval(change: Estimate | None, confident: bool) -> str:
    if change is None or not confident:
        return ""
    return f" (change {change.value:+.2f}, 95% interval {change.low:+.2f} to {change.high:+.2f})"
