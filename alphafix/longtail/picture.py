"""The distribution as a picture."""

from __future__ import annotations

import numpy as np

from alphafix.report.style import OVERALL, TIER_COLORS, figure, png_bytes
from alphafix.values.classes import TIERS, ClassTable


def distribution_png(classes: ClassTable) -> bytes:
    """Training images of each class, the largest first, coloured by split (OLTR, Figure 10)."""
    order = np.argsort(-classes.counts, kind="stable")
    counts, splits = classes.counts[order], classes.tiers[order]
    with figure(figsize=(6.4, 3.4)) as (made, axes):
        for split, name in reversed(list(enumerate(TIERS))):
            mine = np.flatnonzero(splits == split)
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
        axes.legend(fontsize=8)
    return png_bytes(made)
