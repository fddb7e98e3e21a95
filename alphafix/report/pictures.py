"""The figures of the paper on the user's own data, each with the numbers behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from alphafix.metrics.alike import Alike
from alphafix.metrics.evaluation import ClassResults
from alphafix.metrics.predictions import BeforeAfter
from alphafix.report.analysis import (
    GROUPS,
    Fit,
    flows,
    linear_fit,
    mean_interval,
    prediction_groups,
)
from alphafix.report.style import (
    NEUTRAL,
    OVERALL,
    RIGHT,
    TIER_COLORS,
    TIER_LINES,
    TIER_MARKERS,
    WRONG,
    canvas,
)
from alphafix.shown import csv_text
from alphafix.values.arrays import FloatArray64, IntArray
from alphafix.values.classes import TIERS, ClassTable
from alphafix.values.trials import Trials

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GROUP_COLORS = (RIGHT, WRONG, NEUTRAL)
_GROUP_HATCHES = ("", "//", "..")

# More points than these are drawn as one image, and more bars than these as one outline: as
# vectors, thousands load slowly.
MOST_POINTS = 1000

# Lines of the ranks of neighbours, the nearest first.
_RANK_LINES = ("-", "--", "-.", ":", (0, (6, 1)), (0, (1, 4)))

# Bins of an alpha lie between -1 and 1, as alphas have unit 1-norm.
ALPHA_BINS = 60


@dataclass(frozen=True)
class Picture:
    """A figure with its data.

    Attributes:
        name: Name of its files.
        title: Its heading.
        caption: What it shows, and which figure of the paper it is.
        drawing: The Matplotlib figure.
        header: Columns of its CSV.
        rows: Its data.
        values: What the marks of the drawing say under the pointer, in their order, by the id
            (``gid``) of the part of the drawing that they are in.
    """

    name: str
    title: str
    caption: str
    drawing: Figure
    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    values: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def csv(self) -> str:
        """The data as CSV, with a header."""
        return csv_text([self.header, *self.rows])


def flow_picture(
    name: str,
    title: str,
    caption: str,
    shown: BeforeAfter,
    alike: Alike,
) -> Picture:
    """Prediction groups before and after, and what goes between them (Figures 1a, 5, 6)."""
    counts = flows(
        *(
            prediction_groups(one.predicted, shown.labels, alike)
            for one in (shown.before, shown.after)
        )
    )
    with canvas(figsize=(6.4, 3.6)) as (made, axes):
        values = bands(axes, counts)
    rows = [
        [GROUPS[i], GROUPS[j], int(counts[i, j])]
        for i in range(len(GROUPS))
        for j in range(len(GROUPS))
    ]
    return Picture(name, title, caption, made, ["before", "after", "samples"], rows, values)


def bands(axes: Any, counts: IntArray) -> dict[str, list[str]]:
    """Two stacked bars and the bands between them, in percent of the samples.

    Returns:
        What these say under the pointer (see `Picture.values`).
    """
    values: dict[str, list[str]] = {}
    shares = 100 * counts / counts.sum()
    left_top = np.r_[0, np.cumsum(shares.sum(axis=1))]
    right_top = np.r_[0, np.cumsum(shares.sum(axis=0))]
    for group, color in enumerate(_GROUP_COLORS):
        for x, tops in ((0.0, left_top), (1.0, right_top)):
            height = tops[group + 1] - tops[group]
            (bar,) = axes.bar(
                x,
                height,
                bottom=tops[group],
                width=0.18,
                color=color,
                hatch=_GROUP_HATCHES[group],
                edgecolor="#ffffff",
                lw=0,
            )
            bar.set_gid(f"bar-{group}-{x:g}")
            when = "before" if x == 0 else "after"
            values[f"bar-{group}-{x:g}"] = [f"{when}: {GROUPS[group]}, {height:.1f}%"]
            if height > 3:
                text = f"{GROUPS[group]}\n{height:.1f}%"
                align, side = ("right", -0.11) if x == 0 else ("left", 0.11)
                axes.text(x + side, tops[group] + height / 2, text, ha=align, va="center")
    t = np.linspace(0, 1, 40)
    ease = t * t * (3 - 2 * t)
    right = right_top[:-1].copy()
    for i, color in enumerate(_GROUP_COLORS):
        left = left_top[i]
        for j in range(len(GROUPS)):
            low = left + (right[j] - left) * ease
            band = axes.fill_between(
                0.09 + 0.82 * t, low, low + shares[i, j], color=color, alpha=0.35, lw=0
            )
            band.set_gid(f"band-{i}-{j}")
            values[f"band-{i}-{j}"] = [f"{GROUPS[i]} → {GROUPS[j]}: {counts[i, j]:,} samples"]
            left, right[j] = left + shares[i, j], right[j] + shares[i, j]
    axes.set_xticks([0, 1], ["before", "after"])
    axes.set_xlim(-0.75, 1.75)
    axes.set_ylim(0, 100)
    axes.set_ylabel(f"% of {int(counts.sum()):,} samples")
    axes.grid(visible=False)
    return values


def distance_picture(
    name: str,
    title: str,
    caption: str,
    classes: ClassTable,
    ids: IntArray,
    distances: FloatArray64,
    values: FloatArray64,
    what: str,
) -> Picture:
    """A figure of each class against its mean distance to its neighbours (Figures 1c, 4, A10-A12).

    Args:
        name: Name of its files.
        title: Its heading.
        caption: What it shows.
        classes: The class table.
        ids: The classes shown, int64 of shape P.
        distances: Mean distance of each to its K neighbours, float64 of shape P.
        values: Accuracy or change of each in percent, float64 of shape P; NaN is left out.
        what: Name of the values' axis.
    """
    known = np.isfinite(values)
    ids, distances, values = ids[known], distances[known], values[known]
    fit = linear_fit(distances, values)
    said: dict[str, list[str]] = {}
    with canvas() as (made, axes):
        for tier, name_of_tier in enumerate(TIERS):
            mine = classes.tiers[ids] == tier
            if mine.any():
                axes.scatter(
                    distances[mine],
                    values[mine],
                    s=14,
                    marker=TIER_MARKERS[name_of_tier],
                    color=TIER_COLORS[name_of_tier],
                    alpha=0.7,
                    lw=0,
                    label=name_of_tier,
                    gid=f"points-{name_of_tier}",
                    rasterized=len(ids) > MOST_POINTS,
                )
                said[f"points-{name_of_tier}"] = [
                    f"{classes.names[i]}: {v:.1f} at distance {d:.3g}"
                    for i, d, v in zip(ids[mine], distances[mine], values[mine], strict=True)
                ]
        draw_fit(axes, fit, (0.0 if what.startswith("accuracy") else -100.0, 100.0))
        axes.set_xlabel("mean distance to the nearest neighbours")
        axes.set_ylabel(what)
        legend_above(axes)
    found = "no linear fit" if fit is None else fit_text(fit)
    rows = [
        [int(i), classes.names[i], float(d), float(v)]
        for i, d, v in zip(ids, distances, values, strict=True)
    ]
    header = ["class", "name", "mean_distance", what]
    return Picture(name, title, f"{caption} {found}.", made, header, rows, said)


def legend_above(axes: Any) -> None:
    """The legend where it covers nothing; none where nothing is to be told."""
    if count := len(axes.get_legend_handles_labels()[1]):
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=count, borderaxespad=0.2)


def draw_fit(axes: Any, fit: Fit | None, possible: tuple[float, float]) -> None:
    """The line and its band, as far as there are such values (``possible``)."""
    if fit is None:
        return
    line = fit.slope * fit.x + fit.intercept
    inside = (line >= possible[0]) & (line <= possible[1])
    axes.plot(fit.x[inside], line[inside], color=OVERALL, lw=1.5)
    low, high = (np.clip(end, *possible) for end in (fit.low, fit.high))
    axes.fill_between(fit.x, low, high, color=OVERALL, alpha=0.12, lw=0)


def fit_text(fit: Fit) -> str:
    """What a caption says of it."""
    return (
        f"Linear fit with 95% bootstrap band over classes; r = {fit.r:.2f} "
        f"[{fit.r_low:.2f}, {fit.r_high:.2f}]"
    )


Series = dict[float, dict[str, list[float]]]
"""Values of single trials by setting (rho or K) and tier."""


def setting_picture(
    name: str,
    title: str,
    caption: str,
    series: dict[str, Series],
    base: dict[str, float],
    axis: str,
) -> Picture:
    """Change of tier accuracy over rho (Figure 3) or accuracy over K (Figure A1).

    Args:
        name: Name of its files.
        title: Its heading.
        caption: What it shows.
        series: Accuracies of single trials, by panel.
        base: The base head's accuracy by tier.
        axis: "rho" or "K".
    """
    rows: list[list[Any]] = []
    said: dict[str, list[str]] = {}
    with canvas(figsize=(3.7 * len(series) + 1.2, 3.8), ncols=len(series), sharey=True) as (
        made,
        axes,
    ):
        for panel, (label, settings) in zip(np.atleast_1d(axes), series.items(), strict=True):
            xs = sorted(settings)
            for tier, color in TIER_COLORS.items():
                if tier not in base:
                    continue
                found = [mean_interval([v - base[tier] for v in settings[x][tier]]) for x in xs]
                means, lows, highs = (np.array(part) for part in zip(*found, strict=True))
                gid = f"{'-'.join(label.split())}-{tier}"
                look = {"linestyle": TIER_LINES[tier], "marker": TIER_MARKERS[tier]}
                panel.plot(xs, means, color=color, ms=4, label=tier, gid=gid, **look)
                said[gid] = [
                    f"{tier}: {mean:+.1f} [{low:+.1f}, {high:+.1f}] at {axis} {x:g}"
                    for x, (mean, low, high) in zip(xs, found, strict=True)
                ]
                panel.fill_between(xs, lows, highs, color=color, alpha=0.2, lw=0)
                rows += [
                    [label, x, tier, *one, len(settings[x][tier])]
                    for x, one in zip(xs, found, strict=True)
                ]
            panel.axhline(0, color=NEUTRAL, lw=0.8)
            panel.set_title(label)
            panel.set_xlabel(axis)
        np.atleast_1d(axes)[0].set_ylabel("change of top-1 in points")
        handles = np.atleast_1d(axes)[0].get_legend_handles_labels()
        made.legend(*handles, loc="outside lower center", ncols=4)
    header = ["panel", axis, "split", "mean_change", "low", "high", "trials"]
    return Picture(name, title, caption, made, header, rows, said)


def class_change_picture(classes: ClassTable, results: ClassResults) -> Picture:
    """Change of each class's accuracy, sorted within its tier (Figures A3-A9)."""
    change = results.change
    from matplotlib.collections import PolyCollection

    rows: list[list[Any]] = []
    said: dict[str, list[str]] = {}
    with canvas(figsize=(7.2, 3.8)) as (made, axes):
        start = 0
        for name in TIERS:
            ids = classes.tier(name)
            ids = ids[np.isfinite(change[ids])]
            if not len(ids):
                continue
            ids = ids[np.argsort(-change[ids], kind="stable")]
            x = np.arange(start, start + len(ids) + 1)
            if len(classes) <= MOST_POINTS:
                bars = [[(i, 0), (i, y), (i + 1, y), (i + 1, 0)] for i, y in zip(x, change[ids])]  # noqa: B905
                axes.add_collection(
                    PolyCollection(bars, color=TIER_COLORS[name], lw=0, gid=f"bars-{name}")
                )
                said[f"bars-{name}"] = [f"{classes.names[i]}: {change[i]:+.1f}" for i in ids]
                axes.autoscale_view()
            else:
                y = np.r_[change[ids], change[ids[-1]]]
                axes.fill_between(x, y, step="post", color=TIER_COLORS[name], lw=0)
            mean = float(change[ids].mean())
            axes.plot([x[0], x[-1]], [mean, mean], color=OVERALL, lw=1.5, ls="--")
            middle, top = (x[0] + x[-1]) / 2, axes.get_xaxis_transform()
            axes.text(middle, 1.01, f"{name} {mean:+.1f}", ha="center", transform=top)
            rows += [[name, int(i), classes.names[i], float(change[i])] for i in ids]
            start += len(ids)
        axes.axhline(0, color=OVERALL, lw=0.8)
        axes.set_xlabel("classes, sorted within their split")
        axes.set_ylabel("change of class accuracy in points")
    return Picture(
        "class-change",
        "Change of each class",
        "Per-class change of accuracy, sorted within each split, with split means as dashed "
        "lines (as the paper's Figures A3-A9, of the correction in use).",
        made,
        ["split", "class", "name", "change"],
        rows,
        said,
    )


def alpha_picture(trials: Trials) -> Picture:
    """Densities of the coefficients by neighbour rank, a panel for each K (Figure A2)."""
    ks = sorted({record.k for record in trials.records})
    return _densities(
        "alphas",
        "What the coefficients look like",
        f"Density of the learned coefficients by neighbour rank, pooled over few-split classes and "
        f"{len(trials)} trials, for each number of neighbours (the paper's Figure A2).",
        {f"{k} neighbours": trials.of_setting(k=k) for k in ks},
    )


def alpha_by_rho_picture(trials: Trials) -> Picture:
    """The same with a panel for each rho (Figures A13-A15)."""
    rhos = sorted({record.rho for record in trials.records})
    return _densities(
        "alphas-rho",
        "What the coefficients look like for each rho",
        f"Density of the learned coefficients by neighbour rank, pooled over few-split classes and "
        f"{len(trials)} trials, for each rho (the paper's Figures A13-A15).",
        {f"rho {rho:g}": trials.of_setting(rho=rho) for rho in rhos},
    )


# Panels side by side.
_COLUMNS = 4


def _densities(name: str, title: str, caption: str, panels: dict[str, Trials]) -> Picture:
    edges = np.linspace(-1, 1, ALPHA_BINS + 1)
    columns = min(len(panels), _COLUMNS)
    lines = -(-len(panels) // columns)
    size = (6.4, 4.0) if len(panels) == 1 else (2.4 * columns + 1.2, 2.2 * lines + 0.6)
    rows: list[list[Any]] = []
    with canvas(figsize=size, nrows=lines, ncols=columns, squeeze=False, sharex=True) as (
        made,
        axes,
    ):
        for place, (label, trials) in zip(axes.flat, panels.items(), strict=False):
            alphas = trials.alphas
            for rank in range(alphas.shape[2]):
                density, _ = np.histogram(alphas[:, :, rank], bins=edges, density=True)
                line = _RANK_LINES[rank % len(_RANK_LINES)]
                color = OVERALL if rank < len(_RANK_LINES) else NEUTRAL
                place.stairs(
                    density, edges, color=color, ls=line, label=f"neighbour {rank + 1}", lw=1.3
                )
                rows += [
                    [label, rank + 1, float(low), float(high), float(value)]
                    for low, high, value in zip(edges[:-1], edges[1:], density, strict=True)
                ]
            place.set_title(label)
            place.set_xlabel("alpha")
        for place in axes.flat[len(panels) :]:
            place.set_axis_off()
        axes[0, 0].set_ylabel("density")
        most = max(range(len(panels)), key=lambda i: list(panels.values())[i].alphas.shape[2])
        handles, labels = axes.flat[most].get_legend_handles_labels()
        made.legend(handles, labels, loc="outside lower center", ncols=4)
    return Picture(name, title, caption, made, ["panel", "rank", "from", "to", "density"], rows)
