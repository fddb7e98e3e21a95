"""Unknown classes: what is accepted as known by the threshold on the softmax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from alphafix.evaluation.bootstrap import bootstrap, interval
from alphafix.evaluation.predictions import Predictions

FloatArray64 = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

FIGURES = ("f_measure", "f_measure_old", "auroc", "known_accepted", "unknown_accepted")
"""What `open_set_figures` gives, in percent."""


@dataclass(frozen=True)
class OpenSamples:
    """One classifier on N known samples followed by U unknown ones.

    Attributes:
        confidence: Largest softmax probability, float32 of shape N + U.
        right: Whether the class is right (false for unknown samples), bool of shape N + U.
        known: Whether the sample is of a known class, bool of shape N + U.
    """

    confidence: npt.NDArray[np.float32]
    right: npt.NDArray[np.bool_]
    known: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, labels: IntArray, known: Predictions, unknown: Predictions) -> OpenSamples:
        """Join the predictions on known samples of these labels and on unknown ones."""
        samples, others = len(labels), len(unknown.predicted)
        return cls(
            np.concatenate([known.confidence, unknown.confidence]),
            np.concatenate([known.predicted == labels, np.zeros(others, dtype=np.bool_)]),
            np.arange(samples + others) < samples,
        )


class OpenSetFigures:
    """Figures of one classifier with the rule that confidence under a threshold is unknown.

    With TP = known samples that are accepted and right, FN = unknown samples that are
    accepted, and FP = all other known samples, rejected ones included,
    F = 2 TP / (2 TP + FP + FN) (OLTR, Eq. 11). **f_measure_old** is the form of the authors'
    older code, which leaves rejected samples out of FP and so rises without end with the
    threshold. **auroc** is the area under the curve of known against unknown by confidence.

    Args:
        samples: The classifier's confidence on known and unknown samples.
        threshold: Confidence under which a sample is called unknown (OLTR: 0.1).
    """

    def __init__(self, samples: OpenSamples, threshold: float) -> None:
        accepted = samples.confidence >= threshold
        known = samples.known
        self.masks = np.stack(
            [
                known & accepted & samples.right,
                known & ~(accepted & samples.right),
                known & accepted & ~samples.right,
                ~known & accepted,
                known & accepted,
            ]
        ).astype(np.float64)
        self.known = known
        # Equal confidences share a step of the curve, so that a tie counts one half.
        values, self.step = np.unique(samples.confidence, return_inverse=True)
        self.steps = len(values)

    def vector(self, index: IntArray) -> FloatArray64:
        """`FIGURES` on the samples ``index``."""
        times = np.bincount(index, minlength=len(self.known)).astype(np.float64)
        right, wrong, wrong_accepted, unknown_accepted, known_accepted = self.masks @ times
        known = float(times[self.known].sum())
        unknown = float(times.sum()) - known
        return 100 * np.array(
            [
                _f_measure(right, wrong, unknown_accepted),
                _f_measure(right, wrong_accepted, unknown_accepted),
                self._auroc(times, known, unknown),
                known_accepted / known,
                unknown_accepted / unknown,
            ]
        )

    def _auroc(self, times: FloatArray64, known: float, unknown: float) -> float:
        ups = np.bincount(self.step, weights=times * self.known, minlength=self.steps)
        downs = np.bincount(self.step, weights=times * ~self.known, minlength=self.steps)
        below = np.cumsum(downs) - downs / 2
        return float(ups @ below / (known * unknown))


def _f_measure(true_positive: float, false_positive: float, false_negative: float) -> float:
    total = 2 * true_positive + false_positive + false_negative
    return 2 * true_positive / total if total else 0.0


def open_set_figures(
    labels: IntArray,
    base: tuple[Predictions, Predictions],
    corrected: tuple[Predictions, Predictions],
    *,
    threshold: float,
    draws: int,
    seed: int,
) -> dict[str, Any]:
    """Open-set figures of base and corrected, in percent with 95% intervals, as JSON data.

    Args:
        labels: Classes of the N known samples, int64.
        base: The base head's predictions on known and on unknown samples.
        corrected: The corrected head's.
        threshold: Confidence under which a sample is called unknown.
        draws: Bootstrap draws over samples, by class; unknown samples are one class.
        seed: Their seed.
    """
    figures = [
        OpenSetFigures(OpenSamples.of(labels, *pair), threshold) for pair in (base, corrected)
    ]
    unknown = len(base[1].predicted)
    strata = np.r_[labels, np.full(unknown, labels.max() + 1)]

    def both(index: IntArray) -> FloatArray64:
        before, after = (found.vector(index) for found in figures)
        return np.stack([before, after, after - before]).ravel()

    point = both(np.arange(len(strata)))
    low, high = interval(bootstrap(both, strata, draws=draws, seed=seed))
    estimates = [
        {"value": float(value), "low": float(least), "high": float(most)}
        for value, least, most in zip(point, low, high, strict=True)
    ]
    places = {"base": 0, "corrected": len(FIGURES), "change": 2 * len(FIGURES)}
    return {
        "threshold": threshold,
        "known_samples": len(labels),
        "unknown_samples": unknown,
        **{
            name: {key: estimates[start + i] for key, start in places.items()}
            for i, name in enumerate(FIGURES)
        },
    }
