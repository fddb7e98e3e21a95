"""The figure of a threshold sweep (OLTR, Figure 8b)."""

from __future__ import annotations

from alphafix.metrics.open_set import OpenSet
from alphafix.openset.curve import CURVES
from alphafix.report.pictures import Picture
from alphafix.report.style import NEUTRAL, OVERALL, RIGHT, WRONG, canvas

_DRAWN = {
    "f_measure": ("F-measure", OVERALL, "-"),
    "f_measure_old": ("F-measure, old form", OVERALL, "--"),
    "known_accepted": ("known accepted", RIGHT, "-"),
    "unknown_accepted": ("unknown accepted", WRONG, "-."),
    "open_top1": ("top-1, rejected wrong", OVERALL, ":"),
}

_HEADS = {"base": "before", "corrected": "after"}


def open_curve_picture(found: OpenSet) -> Picture:
    """F-measure by both forms and what is accepted, against the threshold."""
    thresholds = found.curve.thresholds
    heads = {"base": found.curve.base, "corrected": found.curve.corrected}
    with canvas(figsize=(8.2, 3.8), ncols=2, sharey=True) as (made, axes):
        for panel, (key, head) in zip(axes, heads.items(), strict=True):
            for name, (words, color, style) in _DRAWN.items():
                # Matplotlib leaves out what is not a number.
                values = [float("nan") if v is None else v for v in head.figures[name]]
                panel.plot(thresholds, values, style, color=color, label=words, lw=1.4)
            panel.axvline(found.threshold, color=NEUTRAL, lw=0.8)
            panel.plot(head.best_threshold, head.best_f_measure, "o", color=OVERALL, ms=4)
            panel.set_title(_HEADS[key])
            panel.set_xlabel("threshold on the softmax confidence")
        axes[0].set_ylabel("%")
        handles = axes[0].get_legend_handles_labels()
        made.legend(*handles, loc="outside lower center", ncols=3)
    best = "; ".join(
        f"{_HEADS[key]}: largest F-measure {head.best_f_measure:.1f} at {head.best_threshold:.3f}"
        for key, head in heads.items()
    )
    rows = [
        [threshold, key, *(head.figures[name][i] for name in CURVES)]
        for key, head in heads.items()
        for i, threshold in enumerate(thresholds)
    ]
    return Picture(
        "open-set",
        "Unknown classes against the threshold",
        f"{found.known_samples:,} samples of known classes and "
        f"{found.unknown_samples:,} of unknown ones; the grey line is the threshold of the "
        f"tables, the dot the best one, chosen on these very samples ({best}). The old form of "
        "the F-measure leaves rejected known samples out, so that it rises with the threshold.",
        made,
        ["threshold", "head", *CURVES],
        rows,
    )
