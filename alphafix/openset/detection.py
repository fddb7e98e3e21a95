"""Known against unknown samples by one number each: AUROC and detection error."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from alphafix.values.arrays import BoolArray, FloatArray64

Counts = float | FloatArray64

# ODIN's operating point, at which OLTR's Table 2 is given: 95% of known samples are accepted.
TRUE_POSITIVE_RATE = 0.95


class Ranking:
    """Known and unknown samples in the order of their confidence, with repeats.

    Args:
        confidence: How sure a sample is to be of a known class, floating point of shape N.
        known: Whether it is, bool of shape N.
    """

    def __init__(self, confidence: npt.NDArray[np.floating], known: BoolArray) -> None:
        self.known = known
        # Equal confidences share a step of the curve, so that a tie counts one half.
        values, self.step = np.unique(confidence, return_inverse=True)
        self.steps = len(values)

    def auroc(self, times: FloatArray64) -> float:
        """Share of pairs of a known and an unknown sample that are the right way round.

        Args:
            times: How often each sample is taken, float64 of shape N.

        Returns:
            0 to 1, or NaN without a known or without an unknown sample.
        """
        known, unknown = self._counts(times)
        pairs = known.sum() * unknown.sum()
        below = np.cumsum(unknown) - unknown / 2
        return float(known @ below / pairs) if pairs else float("nan")

    def detection_error(self, times: FloatArray64) -> float:
        """½ (1 - TPR) + ½ FPR where at least 95% of the known samples are accepted.

        The largest threshold with TPR >= 95% is taken (Liang et al. 2018, section 4.2; OLTR,
        Table 2), and known and unknown samples count one half each, however many there are.

        Args:
            times: How often each sample is taken, float64 of shape N.

        Returns:
            0 to 1, or NaN without a known or without an unknown sample.
        """
        known, unknown = self._counts(times)
        if not known.sum() or not unknown.sum():
            return float("nan")
        # From the most confident step down; sums of whole numbers are exact.
        accepted, false = np.cumsum(known[::-1]), np.cumsum(unknown[::-1])
        enough = np.ceil(TRUE_POSITIVE_RATE * accepted[-1] - 1e-9)
        at = int(np.argmax(accepted >= enough))
        return float(1 - accepted[at] / accepted[-1] + false[at] / false[-1]) / 2

    def _counts(self, times: FloatArray64) -> tuple[FloatArray64, FloatArray64]:
        """Known and unknown samples at each step, the least confidence first."""
        return self._count(times * self.known), self._count(times * ~self.known)

    def _count(self, weights: FloatArray64) -> FloatArray64:
        counts: FloatArray64 = np.bincount(self.step, weights=weights, minlength=self.steps).astype(
            np.float64
        )
        return counts


def f_measures(right: Counts, accepted: Counts, known: float, false: Counts) -> FloatArray64:
    """The F-measure by both forms, F = 2 TP / (2 TP + FP + FN); 0 where there is nothing.

    TP are the known samples that are accepted and right, and FN the unknown ones that are
    accepted. FP are all other known samples, rejected ones included (OLTR, Eq. 11), or, in the
    authors' older code, accepted ones alone: that form rises without end with the threshold.

    Args:
        right: Number of known samples that are accepted and right, of any shape.
        accepted: Number of known samples that are accepted, of the same shape.
        known: Number of known samples.
        false: Number of unknown samples that are accepted, of the same shape.

    Returns:
        0 to 1, float64 of shape 2 x ...: by Eq. 11, and by the older form.
    """
    hits = np.asarray(right, dtype=np.float64)
    totals = np.stack([hits + known + false, hits + accepted + false])
    found: FloatArray64 = 2 * hits / np.where(totals > 0, totals, 1)
    return found
