"""The figures of the paper that are means over runs: Figures 4 and 5, A3-A9 and A10-A12.

A correction is one head, a choice among trials or their mean; the paper shows what each trial does
by itself, over ten of them. Shapes: T trials, N samples, C classes, P of them in a pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from alphafix.alphanet.measure import trial_predictions
from alphafix.openset.evaluating import Evaluated
from alphafix.report.analysis import GROUPS, Pool, flows, linear_fit, prediction_groups
from alphafix.report.pictures import (
    MOST_POINTS,
    Picture,
    bands,
    draw_fit,
    fit_text,
    legend_above,
)
from alphafix.report.style import OVERALL, TIER_COLORS, TIER_MARKERS, canvas
from alphafix.values.arrays import FloatArray64, IntArray
from alphafix.values.classes import TIERS, ClassTable

# Draws behind the interval of one class's mean over trials.
DRAWS = 1000

_POOLS = {
    "few-base": ("few-split classes, neighbours among the other classes", "5a", "4"),
    "base-few": ("medium and many classes, neighbours among the few-split classes", "5b", ""),
    "all-all": ("all classes, neighbours among all others", "5c", "A10-A12"),
}


@dataclass(frozen=True)
class Runs:
    """The trials of one setting on the evaluated samples.

    Attributes:
        rho: Of all of them.
        k: Of all of them.
        predicted: What each takes the samples for, int64 of shape T x N.
        found: The evaluation that they belong to.
    """

    rho: float
    k: int
    predicted: IntArray
    found: Evaluated

    @classmethod
    def of(cls, found: Evaluated) -> Runs | None:
        """The trials of the chosen rho and K; None where there are fewer than two."""
        correction, classes = found.correction, found.evaluation.classes
        if correction.trials is None:
            return None
        first = correction.trials.records[0]
        rho = first.rho if correction.chosen.rho is None else correction.chosen.rho
        k = first.k if correction.chosen.k is None else correction.chosen.k
        trials = correction.trials.of_setting(rho=rho, k=k)
        if len(trials) < 2:
            return None
        predicted = trial_predictions(trials, found.head, classes, found.store)
        return cls(rho, k, predicted, found)

    def __len__(self) -> int:
        return len(self.predicted)

    @property
    def classes(self) -> ClassTable:
        """The class table."""
        return self.found.evaluation.classes

    @cached_property
    def accuracy(self) -> FloatArray64:
        """Accuracy of each class in each trial in percent, float64 of shape T x C; NaN without."""
        labels, count = self.found.both.labels, len(self.classes)
        samples = np.bincount(labels, minlength=count)
        right = [
            np.bincount(labels, weights=one == labels, minlength=count) for one in self.predicted
        ]
        with np.errstate(invalid="ignore"):
            shares: FloatArray64 = 100 * np.stack(right) / samples
        return shares

    @property
    def change(self) -> FloatArray64:
        """Its difference from the base head's, in points."""
        return self.accuracy - self.found.evaluation.by_class.base_accuracy

    @property
    def words(self) -> str:
        """Which trials these are."""
        return f"{len(self)} trials with rho {self.rho:g} and K {self.k}, each by itself"


def over_trials(found: Evaluated, pools: Sequence[Pool]) -> list[Picture]:
    """The figures of the trials with the chosen rho and K; none where there is only one.

    Args:
        found: An evaluation of a correction by AlphaNet.
        pools: Neighbour pools (see `alphafix.report.analysis.neighbour_pools`).
    """
    runs = Runs.of(found)
    if runs is None:
        return []
    present = np.unique(found.both.labels)
    drawn = [_flows(runs, pool) for pool in pools if np.isin(pool.classes, present).any()]
    for pool in pools:
        if pool.key != "base-few":
            drawn += _distances(runs, pool)
    return [*drawn, _class_change(runs)]


def mean_over_trials(values: FloatArray64) -> tuple[FloatArray64, FloatArray64, FloatArray64]:
    """Mean over trials of each column and its 95% bootstrap interval, each float64 of shape P.

    Args:
        values: float64 of shape T x P.
    """
    rng = np.random.default_rng(0)
    times = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), size=DRAWS)
    low, high = np.percentile(times @ values / len(values), [2.5, 97.5], axis=0)
    return values.mean(axis=0), low, high


def _flows(runs: Runs, pool: Pool) -> Picture:
    words, figure, _ = _POOLS[pool.key]
    both = runs.found.both
    mine = np.isin(both.labels, pool.classes)
    labels = both.labels[mine]
    before = prediction_groups(both.before.predicted[mine], labels, pool.alike)
    counts = np.stack(
        [flows(before, prediction_groups(one[mine], labels, pool.alike)) for one in runs.predicted]
    )
    shares = 100 * counts.reshape(len(runs), -1) / len(labels)
    cells = zip(*mean_over_trials(shares), strict=True)
    rows = [
        [GROUPS[i // 3], GROUPS[i % 3], int(counts[:, i // 3, i % 3].sum()), *map(float, cell)]
        for i, cell in enumerate(cells)
    ]
    after = zip(*mean_over_trials(100 * counts.sum(axis=1) / len(labels)), strict=True)
    said = "; ".join(
        f"{group} {mean:.1f}% [{low:.1f}, {high:.1f}]"
        for group, (mean, low, high) in zip(GROUPS, after, strict=True)
    )
    with canvas(figsize=(6.4, 3.6)) as (made, axes):
        values = bands(axes, counts.sum(axis=0))
    return Picture(
        f"runs-flows-{pool.key}",
        f"Predictions over all trials: {words}",
        f"Prediction groups before and after, summed over {runs.words} (the paper's Figure "
        f"{figure}). After, with 95% intervals over trials: {said}.",
        made,
        ["before", "after", "samples", "mean_percent", "low", "high"],
        rows,
        values,
    )


def _distances(runs: Runs, pool: Pool) -> list[Picture]:
    words, _, figure = _POOLS[pool.key]
    return [
        _distance(
            runs,
            pool,
            f"runs-accuracy-distance-{pool.key}",
            f"AlphaNet's accuracy against neighbour distance: {words}",
            "the paper's Figures A10-A12",
            runs.accuracy,
            "accuracy of AlphaNet in %",
        ),
        _distance(
            runs,
            pool,
            f"runs-change-distance-{pool.key}",
            f"Change over all trials against neighbour distance: {words}",
            "the paper's Figure 4" if figure == "4" else "as the paper's Figure 4",
            runs.change,
            "change in points",
        ),
    ]


def _distance(
    runs: Runs,
    pool: Pool,
    name: str,
    title: str,
    figure: str,
    values: FloatArray64,
    what: str,
) -> Picture:
    """One point a class, its mean over trials, with a line from end to end of its interval."""
    known = np.isfinite(values[0, pool.classes])
    ids, distances = pool.classes[known], pool.distances[known]
    mean, low, high = mean_over_trials(values[:, ids])
    fit = linear_fit(distances, mean)
    tiers = runs.classes.tiers[ids]
    said: dict[str, list[str]] = {}
    with canvas() as (made, axes):
        for tier, name_of_tier in enumerate(TIERS):
            own = tiers == tier
            if own.any():
                drawn = axes.errorbar(
                    distances[own],
                    mean[own],
                    np.stack([mean[own] - low[own], high[own] - mean[own]]),
                    fmt=TIER_MARKERS[name_of_tier],
                    ms=3,
                    lw=0,
                    elinewidth=0.6,
                    color=TIER_COLORS[name_of_tier],
                    alpha=0.6,
                    label=name_of_tier,
                    rasterized=len(ids) > MOST_POINTS,
                )
                drawn.lines[0].set_gid(f"points-{name_of_tier}")
                said[f"points-{name_of_tier}"] = [
                    f"{runs.classes.names[i]}: {v:.1f} at distance {d:.3g}"
                    for i, d, v in zip(ids[own], distances[own], mean[own], strict=True)
                ]
        draw_fit(axes, fit, (0.0 if what.startswith("accuracy") else -100.0, 100.0))
        axes.set_xlabel("mean distance to the nearest neighbours")
        axes.set_ylabel(what)
        legend_above(axes)
    found = "no linear fit" if fit is None else fit_text(fit)
    rows: list[list[Any]] = [
        [int(i), runs.classes.names[i], *map(float, numbers)]
        for i, *numbers in zip(ids, distances, mean, low, high, strict=True)
    ]
    return Picture(
        name,
        title,
        f"One point a class: mean over {runs.words}, with its 95% interval over trials ({figure}). "
        f"{found}.",
        made,
        ["class", "name", "mean_distance", what, "low", "high"],
        rows,
        said,
    )


def _class_change(runs: Runs) -> Picture:
    """Change of each class, by its training samples within its split, as the authors draw it."""
    rows: list[list[Any]] = []
    with canvas(figsize=(7.2, 3.8)) as (made, axes):
        start = 0
        for name in TIERS:
            ids = runs.classes.tier(name)
            ids = ids[np.isfinite(runs.change[0, ids])]
            if not len(ids):
                continue
            ids = ids[np.argsort(runs.classes.counts[ids], kind="stable")]
            mean, low, high = mean_over_trials(runs.change[:, ids])
            x = np.arange(start, start + len(ids))
            axes.plot(x, mean, color=TIER_COLORS[name], lw=0.8)
            axes.fill_between(x, low, high, color=TIER_COLORS[name], alpha=0.3, lw=0)
            axes.plot([x[0], x[-1]], [mean.mean()] * 2, color=OVERALL, lw=1.5, ls="--")
            middle, top = (x[0] + x[-1]) / 2, axes.get_xaxis_transform()
            axes.text(middle, 1.01, f"{name} {mean.mean():+.1f}", ha="center", transform=top)
            rows += [
                [name, int(i), runs.classes.names[i], *map(float, numbers)]
                for i, *numbers in zip(ids, mean, low, high, strict=True)
            ]
            start += len(ids)
        axes.axhline(0, color=OVERALL, lw=0.8)
        axes.set_xlabel("classes, by number of training samples within their split")
        axes.set_ylabel("change of class accuracy in points")
    return Picture(
        "runs-class-change",
        "Change of each class over all trials",
        f"Mean change of each class over {runs.words}, with its 95% interval over trials; split "
        "means (of classes) as dashed lines (the paper's Figures A3-A9).",
        made,
        ["split", "class", "name", "change", "low", "high"],
        rows,
    )
