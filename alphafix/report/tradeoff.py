"""The picture of the trade-off: few-split against overall accuracy of every method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alphafix.metrics.comparison import BASE, Comparison, Row
from alphafix.report.style import ACCENT, FEW, GOLD, MANY, MEDIUM, NEUTRAL, OVERALL, SKY, canvas

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LOOKS = {
    "base": ("*", OVERALL, "base head"),
    "simple": ("s", MANY, "simple: closed form, scalars"),
    "trained": ("^", MEDIUM, "trained heads"),
    "alphanet": ("o", FEW, "AlphaNet over rho"),
    "random": ("o", NEUTRAL, "AlphaNet, random neighbours"),
    "calibrated": ("D", GOLD, "AlphaNet + few-bias"),
    "on top": ("v", SKY, "AlphaNet on other heads"),
    "choice": ("P", ACCENT, "chosen by validation"),
    "shipped": ("X", ACCENT, "in this run"),
}

# What a picture of the choice needs to show: points below the base head by at most so much.
OVERALL_BELOW = 6.0
FEW_BELOW = 3.0

# Least distance of two labels, as a share of the height of the axes.
LABEL_GAP = 0.032


def draw_trade_off(comparison: Comparison) -> Figure:
    """The picture: up is better for rare classes, right is better overall."""
    with canvas(figsize=(7.2, 5.2)) as (made, axes):
        shown, left_out = _visible(comparison)
        _curve(axes, comparison)
        for family, (marker, color, label) in _LOOKS.items():
            mine = [row for row in shown if row.method.family == family]
            _points(axes, mine, marker, color, label, line=family in ("alphanet", "random"))
        _limit(axes, comparison)
        _labels(axes, [row for row in shown if _named(row)])
        axes.set_xlabel("overall top-1 in %")
        axes.set_ylabel("few-split top-1 in %")
        note = f"; {left_out} of {len(comparison.rows)} methods are below the frame"
        axes.set_title(
            f"Trade-off on {comparison.on}{note if left_out else ''}", fontsize=9, loc="left"
        )
        axes.legend(fontsize=7, loc="lower left")
    return made


def _visible(comparison: Comparison) -> tuple[list[Row], int]:
    """Rows that both figures exist for and that are not far below, and how many others."""
    floor_few, floor_overall = _floor(comparison)
    shown = [
        row
        for row in comparison.rows
        if (few := row.figures["few"]) is not None
        and (overall := row.figures["overall"]) is not None
        and few.value >= floor_few
        and overall.value >= floor_overall
    ]
    return shown, len(comparison.rows) - len(shown)


def _floor(comparison: Comparison) -> tuple[float, float]:
    figures = comparison.row(BASE).figures
    few, overall = figures["few"], figures["overall"]
    if few is None or overall is None:  # nothing can be placed
        return float("inf"), float("inf")
    return few.value - FEW_BELOW, overall.value - OVERALL_BELOW


def _curve(axes: Any, comparison: Comparison) -> None:
    """The base head with every value of its few-bias, inside the frame."""
    floor_few, floor_overall = _floor(comparison)
    curve = comparison.curves["few-bias"]
    points = [
        (overall, few)
        for overall, few in zip(curve["overall"], curve["few"], strict=True)
        if overall >= floor_overall and few >= floor_few
    ]
    if points:
        x, y = zip(*points, strict=True)
        axes.plot(x, y, color=MANY, lw=1, alpha=0.6, label="few-bias, any value")


def _limit(axes: Any, comparison: Comparison) -> None:
    """The overall accuracy below which the limit is not kept, where the frame shows it."""
    overall, most = comparison.row(BASE).figures["overall"], comparison.limits.max_overall_drop
    if overall is None or most is None or most > OVERALL_BELOW:
        return
    label = f"limit: {most:g} points overall"
    axes.axvline(overall.value - most, color=NEUTRAL, lw=1, linestyle="--", label=label)


def _points(axes: Any, rows: list[Row], marker: str, color: str, label: str, *, line: bool) -> None:
    few = [row.figures["few"].value for row in rows if row.figures["few"]]
    overall = [row.figures["overall"].value for row in rows if row.figures["overall"]]
    if not rows:
        return
    size = 12 if marker == "*" else 6
    axes.plot(
        overall,
        few,
        linestyle="-" if line else "none",
        marker=marker,
        ms=size,
        color=color,
        label=label,
        alpha=0.9,
    )


def _named(row: Row) -> bool:
    """Whether the point gets its name: those that nothing beats, the base head, and rho."""
    family = row.method.family
    always = ("base", "alphanet", "choice", "shipped")
    return family in always or (not row.dominated_by and family != "random")


def _labels(axes: Any, rows: list[Row]) -> None:
    """Names right of their points, the lower of two close ones moved down."""
    low, high = axes.get_ylim()
    left, right = axes.get_xlim()
    gap, below = (high - low) * LABEL_GAP, float("inf")
    placed = [
        (few.value, overall.value, row)
        for row in rows
        if (few := row.figures["few"]) is not None
        and (overall := row.figures["overall"]) is not None
    ]
    for height, across, row in sorted(placed, key=lambda one: -one[0]):
        below = min(height, below - gap)
        text = row.method.name.replace("alphanet rho", "rho").replace("$", r"\$")
        axes.annotate(
            text,
            (across, height),
            xytext=(right + (right - left) * 0.01, below),
            fontsize=6.5,
            va="center",
            color=OVERALL if row.dominated_by else ACCENT,
            arrowprops={"arrowstyle": "-", "lw": 0.4, "color": NEUTRAL, "alpha": 0.6},
            annotation_clip=False,
        )
