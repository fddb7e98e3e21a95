"""Which setting makes the validation samples most likely: a choice that few samples can bear.

Accuracy counts a sample or does not; among dozens of settings the best count is best by luck as
much as by merit. The likelihood of the same samples moves smoothly with every score, so that its
optimum lies still where that of the count jumps from one draw of samples to the next
(examples/evidence). Two things it must not judge: how large the scores are as a whole, which does
not change what is predicted, and the offset on the few-split scores, which a limit decides. So both
are taken as they suit a setting best. Few-split and base samples count one half each.
"""

from __future__ import annotations

import numpy as np

from alphafix.values.arrays import BoolArray, FloatArray, FloatArray64, IntArray

TEMPERATURES = (0.125, 0.25, 0.5, 1.0, 2.0)
"""Factors on all scores that are tried."""

SAMPLES = 4096
"""Samples that are enough."""

# The offset that suits best lies between these; 40 halvings find it to 1e-10.
FARTHEST = 60.0
HALVINGS = 40


def terms(scores: FloatArray, few: int, own: IntArray) -> FloatArray:
    """What the likelihood at any offset is made of, at each of `TEMPERATURES`.

    Args:
        scores: n x C, the few-split classes first.
        few: F, their number.
        own: Column of each sample's class, int64 of shape n.

    Returns:
        float32 of shape T x 3 x n: logsumexp over few-split and over base classes, and the
        sample's own score.
    """
    mine = scores[np.arange(len(scores)), own]
    found = np.empty((len(TEMPERATURES), 3, len(scores)), dtype=np.float32)
    for side, part in enumerate((scores[:, :few], scores[:, few:])):
        most = part.max(axis=1)
        apart = part - most[:, None]
        for row, factor in zip(found, TEMPERATURES, strict=True):
            total = np.exp(np.float32(factor) * apart).sum(axis=1)
            row[side] = factor * most + np.log(total)
    found[:, 2] = np.outer(TEMPERATURES, mine)
    return found


def least_loss(found: FloatArray, is_few: BoolArray) -> float:
    """Mean negative log-likelihood at the temperature and the offset that suit best.

    Args:
        found: What `terms` gives for n samples.
        is_few: Whether each sample is of a few-split class, bool of shape n. Where all are or
            none is, there is no such offset, and it is 0.
    """
    few, base, own = (found[:, row].astype(np.float64) for row in range(3))
    share = is_few / max(is_few.sum(), 1) + ~is_few / max((~is_few).sum(), 1)
    share /= share.sum()
    offset = np.zeros((len(found), 1))
    if 0 < is_few.sum() < len(is_few):
        offset[:, 0] = _best_offsets(few - base, share, is_few)
    loss = np.logaddexp(base, few + offset) - own - offset * is_few
    return float((loss @ share).min())


def _best_offsets(ahead: FloatArray64, share: FloatArray64, is_few: BoolArray) -> FloatArray64:
    """For each temperature the offset t of the least loss, which is convex in t.

    Its derivative is the mean of sigmoid(ahead + t) - [few-split].
    """
    wanted = float(share @ is_few)
    low, high = (np.full(len(ahead), edge) for edge in (-FARTHEST, FARTHEST))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        expected = (0.5 + 0.5 * np.tanh((ahead + middle[:, None]) / 2)) @ share
        low = np.where(expected < wanted, middle, low)
        high = np.where(expected < wanted, high, middle)
    found: FloatArray64 = (low + high) / 2
    return found
