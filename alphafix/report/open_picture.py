"""The figure of a threshold sweep (OLTR, Figure 8b)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alphafix.openset.curve import CURVES
from alphafix.report.pictures import Picture
from alphafix.report.style import FEW, GOLD, MANY, MEDIUM, NEUTRAL, OVERALL, figure

_DRAWN = {
    "f_measure": ("F-measure", FEW, "-"),
    "f_measure_old": ("F-measure, old form", GOLD, "--"),
    "known_accepted": ("known accepted", MANY, "-"),
    "unknown_accepted": ("unknown accepted", MEDIUM, "-"),
    "open_top1": ("top-1, rejected wrong", OVERALL, ":"),
}

_HEADS = {"base": "base head", "corrected": "corrected"}


def open_curve_picture(open_set: Mapping[str, Any]) -> Picture:
    """F-measure by both forms and what is accepted, against the threshold.

    Args:
        open_set: The open-set part of an evaluation, with its "open_curve".
    """
    curve = open_set["open_curve"]
    thresholds = curve["thresholds"]
    with figure(figsize=(8.2, 3.8), ncols=2, sharey=True) as (made, axes):
        for panel, (key, label) in zip(axes, _HEADS.items(), strict=True):
            for name, (words, color, style) in _DRAWN.items():
                # Matplotlib leaves out what is not a number; JSON has null for it.
                values = [float("nan") if v is None else v for v in curve[key][name]]
                panel.plot(thresholds, values, style, color=color, label=words, lw=1.4)
            panel.axvline(open_set["threshold"], color=NEUTRAL, lw=0.8)
            best = curve[key]["best"]
            panel.plot(best["threshold"], best["f_measure"], "o", color=FEW, ms=4)
            panel.set_title(label, fontsize=9)
            panel.set_xlabel("threshold on the softmax confidence")
        axes[0].set_ylabel("%")
        axes[0].legend(fontsize=7)
    found = "; ".join(
        f"{label}: largest F-measure {curve[key]['best']['f_measure']:.1f} at "
        f"{curve[key]['best']['threshold']:.3f}"
        for key, label in _HEADS.items()
    )
    rows = [
        [threshold, key, *(curve[key][name][i] for name in CURVES)]
        for key in _HEADS
        for i, threshold in enumerate(thresholds)
    ]
    return Picture(
        "open-set",
        "Unknown classes against the threshold",
        f"{open_set['known_samples']:,} samples of known classes and "
        f"{open_set['unknown_samples']:,} of unknown ones; the grey line is the threshold of the "
        f"tables, the dot the best one, chosen on these very samples ({found}). The old form of "
        "the F-measure leaves rejected known samples out, so that it rises with the threshold.",
        made,
        ["threshold", "head", *CURVES],
        rows,
    )
