"""Which samples each step of a trial sees, drawn in advance from its seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alphafix.values.arrays import IntArray
from alphafix.values.classes import ClassTable
from alphafix.values.labels import ByClass


@dataclass(frozen=True)
class Pool:
    """The training samples to draw from.

    Attributes:
        few: Sample indices of all few-split samples, int64.
        base: Sample indices of all base samples, grouped by class, int64.
        starts: Where each base class begins in ``base``, int64 of shape B.
        sizes: Samples of each base class, int64 of shape B; none is zero.
    """

    few: IntArray
    base: IntArray
    starts: IntArray
    sizes: IntArray

    @classmethod
    def of(cls, labels: IntArray, classes: ClassTable) -> Pool:
        """Group the samples with the given labels (int64, N)."""
        groups = ByClass.of(labels, len(classes))
        is_few = np.zeros(len(classes), dtype=bool)
        is_few[classes.few] = True
        base = groups.order[~is_few[labels[groups.order]]]
        sizes = groups.sizes[classes.base]
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        present = sizes > 0
        return cls(
            few=np.flatnonzero(is_few[labels]).astype(np.int64),
            base=base,
            starts=starts[present].astype(np.int64),
            sizes=sizes[present].astype(np.int64),
        )


def samples_per_epoch(pool: Pool, rho: float) -> int:
    """Every few-split sample, and int(rho * n_few) base samples (AlphaNet, section 4.1)."""
    return len(pool.few) + int(rho * len(pool.few))


def draw_epochs(pool: Pool, *, rho: float, epochs: int, seed: int) -> IntArray:
    """Draw the epoch samples of one trial.

    Each epoch has every few-split sample once and int(rho * n_few) base samples drawn with
    replacement with weight 1/n_c, so that every base class is equally likely; all shuffled.

    Returns:
        Sample indices, int64 of shape epochs x `samples_per_epoch`.
    """
    rng = np.random.default_rng(seed)
    extra = samples_per_epoch(pool, rho) - len(pool.few)
    out = np.empty((epochs, len(pool.few) + extra), dtype=np.int64)
    for epoch in range(epochs):
        # Drawing a class, then one of its samples, is drawing samples with weight 1/n_c.
        drawn = rng.integers(len(pool.sizes), size=extra)
        within = (rng.random(extra) * pool.sizes[drawn]).astype(np.int64)
        base = pool.base[pool.starts[drawn] + within]
        out[epoch] = rng.permutation(np.concatenate([pool.few, base]))
    return out
