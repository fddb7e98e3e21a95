"""The picture of the trade-off: few-split against overall accuracy of every method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alphafix.metrics.comparison import BASE, Comparison, Row
from alphafix.report.style import MARK, NEUTRAL, OVERALL, canvas

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LOOKS = {
    "base": ("*", "before"),
    "simple": ("s", "closed forms, scalars"),
    "trained": ("^", "trained heads"),
    "alphanet": ("o", "AlphaNet over rho"),
    "random": ("p", "with random neighbours"),
    "calibrated": ("D", "AlphaNet + few-bias"),
    "on top": ("v", "AlphaNet on others"),
    "choice": ("P", "chosen by validation"),
    "shipped": ("X", "in this run"),
}

# What a picture of the choice needs to show: points below the base head by at most so much.
OVERALL_BELOW = 6.0
FEW_BELOW = 3.0

# Least distance of two labels, as a share of the height of the axes: a line of text.
LABEL_GAP = 0.045


@dataclass(frozen=True)
class Frame:
    """Where in the drawing which accuracies are, for a script that moves a point.

    Attributes:
        overall: Overall accuracy at the left and at the right edge.
        few: Few-split accuracy at the lower and at the upper edge.
        x: Where these edges are, in the units of the SVG.
        y: Likewise; it grows downwards.
    """

    overall: tuple[float, float]
    few: tuple[float, float]
    x: tuple[float, float]
    y: tuple[float, float]


def draw_trade_off(comparison: Comparison) -> Figure:
    """The picture: up is better for rare classes, right is better overall."""
    return trade_off_drawing(comparison)[0]


def trade_off_drawing(comparison: Comparison) -> tuple[Figure, dict[str, list[str]]]:
    """The picture, and what its points say under the pointer (see `Picture.values`)."""
    said: dict[str, list[str]] = {}
    with canvas(figsize=(7.4, 6.2)) as (made, axes):
        shown, left_out = _visible(comparison)
        _curve(axes, comparison)
        for family, (marker, label) in _LOOKS.items():
            mine = [row for row in shown if row.method.family == family]
            said |= _points(axes, mine, marker, label, line=family in ("alphanet", "random"))
        _limit(axes, comparison)
        _labels(axes, [row for row in shown if _named(row)])
        axes.set_xlabel("overall top-1 in %")
        axes.set_ylabel("few-split top-1 in %")
        note = f"; {left_out} of {len(comparison.rows)} methods are below the frame"
        axes.set_title(f"Trade-off on {comparison.on}{note if left_out else ''}", loc="left")
        made.legend(loc="outside lower left", ncols=3)
    return made, said


def frame_of(made: Figure) -> Frame:
    """The frame of a picture of the trade-off, once it was drawn as SVG."""
    (axes,) = made.axes
    box, height = axes.get_window_extent(), made.bbox.height
    unit = 72 / made.dpi
    return Frame(
        axes.get_xlim(),
        axes.get_ylim(),
        (box.x0 * unit, box.x1 * unit),
        ((height - box.y0) * unit, (height - box.y1) * unit),
    )


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
        axes.plot(x, y, color=NEUTRAL, lw=1, linestyle=":", label="few-bias, any value")


def _limit(axes: Any, comparison: Comparison) -> None:
    """The overall accuracy below which the limit is not kept, where the frame shows it."""
    overall, most = comparison.row(BASE).figures["overall"], comparison.limits.max_overall_drop
    if overall is None or most is None or most > OVERALL_BELOW:
        return
    label = f"limit: {most:g} points overall"
    axes.axvline(overall.value - most, color=NEUTRAL, lw=1, linestyle="--", label=label)


def _points(
    axes: Any, rows: Sequence[Row], marker: str, label: str, *, line: bool
) -> dict[str, list[str]]:
    """Points of one family: filled where nothing dominates them."""
    placed = [
        (overall.value, few.value, row)
        for row in rows
        if (few := row.figures["few"]) is not None
        and (overall := row.figures["overall"]) is not None
    ]
    if not placed:
        return {}
    said = {}
    ours = rows[0].method.family in ("shipped", "choice")
    color, size = (MARK if ours else OVERALL), (12 if marker == "*" else 7)
    if line:
        axes.plot(*zip(*((x, y) for x, y, _ in placed), strict=True), color=NEUTRAL, lw=0.8)
    for dominated in (False, True):
        mine = [one for one in placed if bool(one[2].dominated_by) == dominated]
        if not mine:
            continue
        gid = f"points-{'-'.join(rows[0].method.family.split())}-{int(dominated)}"
        axes.plot(
            [x for x, _, _ in mine],
            [y for _, y, _ in mine],
            linestyle="none",
            marker=marker,
            ms=size,
            color=color,
            markerfacecolor="none" if dominated and not ours else color,
            gid=gid,
        )
        said[gid] = [
            f"{row.method.name.replace(BASE, 'before')}: few {y:.1f}, overall {x:.1f}"
            for x, y, row in mine
        ]
    axes.plot([], [], linestyle="none", marker=marker, ms=size, color=color, label=label)
    return said


def _named(row: Row) -> bool:
    """Whether the point gets its name: those that nothing beats, the base head, and rho."""
    family = row.method.family
    always = ("base", "alphanet", "choice", "shipped")
    return family in always or (not row.dominated_by and family != "random")


def _labels(axes: Any, rows: Sequence[Row]) -> None:
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
        text = row.method.name.replace("alphanet rho", "rho").replace(BASE, "before")
        axes.annotate(
            text.replace("$", r"\$"),
            (across, height),
            xytext=(right + (right - left) * 0.01, below),
            va="center",
            color=MARK if row.method.family in ("choice", "shipped") else OVERALL,
            arrowprops={"arrowstyle": "-", "lw": 0.5, "color": NEUTRAL, "alpha": 0.8},
            annotation_clip=False,
        )
