"""The picture of a class table: how many training images each class has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from alphafix.report.style import OVERALL, TIER_COLORS, canvas
from alphafix.values.classes import TIERS, ClassTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_distribution(classes: ClassTable) -> Figure:
    """Training images of each class, the largest first, coloured by tier (OLTR, Figure 10)."""
    order = np.argsort(-classes.counts, kind="stable")
    counts, tiers = classes.counts[order], classes.tiers[order]
    with canvas(figsize=(6.4, 3.4)) as (made, axes):
        for tier, name in reversed(list(enumerate(TIERS))):
            mine = np.flatnonzero(tiers == tier)
            if len(mine):
                # One outline instead of a bar a class: thousands of classes stay light.
                x = np.r_[mine, mine[-1] + 1]
                y = np.r_[counts[mine], counts[mine[-1]]]
                label = f"{name}: {len(mine)} classes, {counts[mine].sum():,} images"
                axes.fill_between(x, y, step="post", color=TIER_COLORS[name], lw=0, label=label)
        for edge in (classes.thresholds.few, classes.thresholds.many):
            axes.axhline(edge, color=OVERALL, lw=0.6, ls=":")
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.8)
        axes.set_xlabel(f"{len(classes)} classes, sorted by their number of training images")
        axes.set_ylabel("training images")
        axes.legend()
    return made
