"""What the threshold on the softmax does: known accuracy against unknown samples let in."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from alphafix.metrics.open_set import HeadCurve, OpenCurve
from alphafix.openset.detection import f_measures
from alphafix.openset.samples import OpenSamples
from alphafix.values.arrays import FloatArray, FloatArray64

CURVES = ("f_measure", "f_measure_old", "known_accepted", "unknown_accepted", "open_top1")
"""What `open_curve` gives at each threshold, in percent."""

THRESHOLDS: FloatArray64 = np.arange(101) / 100


def open_curve(base: OpenSamples, corrected: OpenSamples) -> OpenCurve:
    """Sweep `THRESHOLDS` over the confidence of both heads (OLTR, Figure 8b)."""
    return OpenCurve(THRESHOLDS.tolist(), _of_one(base), _of_one(corrected))


def sweep(samples: OpenSamples, thresholds: FloatArray) -> Mapping[str, FloatArray64]:
    """`CURVES` at each threshold, in percent; NaN where there are no samples.

    Args:
        samples: A classifier's confidence on N known and U unknown samples.
        thresholds: float32 of shape P: less confident samples are called unknown.
    """
    known, right = samples.known, samples.right
    total, others = int(known.sum()), int((~known).sum())
    hits = _at_least(samples.confidence[known & right], thresholds)
    accepted = _at_least(samples.confidence[known], thresholds)
    false = _at_least(samples.confidence[~known], thresholds)
    with np.errstate(invalid="ignore", divide="ignore"):
        curves = (
            *f_measures(hits, accepted, total, false),
            accepted / np.float64(total),
            false / np.float64(others),
            hits / np.float64(total),
        )
    return {name: 100 * curve for name, curve in zip(CURVES, curves, strict=True)}


def best_threshold(samples: OpenSamples) -> tuple[float, float]:
    """Threshold of the largest F-measure (the least of equals), and that F-measure in percent."""
    candidates = np.unique(samples.confidence)
    found = sweep(samples, candidates)["f_measure"]
    at = int(np.argmax(found))
    return float(candidates[at]), float(found[at])


def _of_one(samples: OpenSamples) -> HeadCurve:
    curves = {
        name: [None if np.isnan(point) else point for point in curve.tolist()]
        for name, curve in sweep(samples, THRESHOLDS.astype(np.float32)).items()
    }
    return HeadCurve(curves, *best_threshold(samples))


def _at_least(confidence: FloatArray, thresholds: FloatArray) -> FloatArray64:
    """How many samples are accepted at each threshold."""
    below = np.searchsorted(np.sort(confidence), thresholds, side="left")
    counts: FloatArray64 = (len(confidence) - below).astype(np.float64)
    return counts
