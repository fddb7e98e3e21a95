"""How the samples of a class scatter about its mean: one covariance that classes share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from alphafix.values.arrays import FloatArray, FloatArray64, IntArray
from alphafix.values.labels import class_counts

# Rows that are multiplied at a time: enough for an efficient product at any width.
ROWS = 2048

# Without any shrinkage a constant feature, or fewer samples than D, has no inverse, and with less
# than this the rounding of float32 could make S indefinite where a few directions have most of it.
LEAST_SHRINKAGE = 1e-4


@dataclass(frozen=True)
class WithinClass:
    """The within-class covariance of some classes, each with the same weight.

    Attributes:
        covariance: S = mean_c 1/n_c sum_{y_i = c} r_i r_i^T with r_i = x_i - m_c, float64, D x D.
        shrinkage: gamma in 0..1 of Ledoit and Wolf (2004): of all (1 - gamma) S + gamma tr(S)/D I,
            the one that is nearest to the true covariance by their estimate.
    """

    covariance: FloatArray64
    shrinkage: float


def within_class(
    chunks: Iterable[tuple[int, FloatArray]],
    labels: IntArray,
    means: FloatArray64,
    classes: IntArray,
    add_up: Callable[..., None] = lambda *arrays: None,
) -> WithinClass:
    """Read the features once, in pieces, and hold one D x D matrix.

    Each piece is multiplied in float32, as which features are stored at most, and added to S in
    float64. scikit-learn's `ledoit_wolf` has the same shrinkage, but wants all samples in float64
    at once and gives each the same weight; with classes of equal size the two agree.

    Args:
        chunks: Index of the first row, and n x D features of about `ROWS` rows.
        labels: Class ids, int64 of shape N; those below 0 are of no class.
        means: Class means, C x D; those of classes without samples mean nothing.
        classes: Ids of the classes that count; those without samples do not.
        add_up: Replaces float64 arrays by their sums over all processes, where each of several
            reads a part of the features (see `alphafix.distributed.Ranks.add_up`).
    """
    from scipy.linalg.blas import ssyrk

    counts, width = class_counts(labels, len(means)), means.shape[1]
    present = classes[counts[classes] > 0]
    weight = np.zeros(len(counts))
    weight[present] = 1 / (counts[present] * len(present))
    centers = means.astype(np.float32)
    scatter = np.zeros((width, width))
    block = np.zeros((width, width), dtype=np.float32, order="F")
    # (w |r|^2)^2 summed, and w^2: of these, and of S itself, the variance of S's entries is made.
    sums = np.zeros(2)
    for start, chunk in chunks:
        own = labels[start : start + len(chunk)]
        mine = np.flatnonzero((own >= 0) & (weight[own] > 0))
        if not len(mine):
            continue
        own = own[mine]
        rows = chunk[mine]
        rows -= centers[own]
        shares = weight[own]
        lengths = np.einsum("nd,nd->n", rows, rows).astype(np.float64)
        sums += [((shares * lengths) ** 2).sum(), (shares**2).sum()]
        rows *= np.sqrt(shares, dtype=np.float32)[:, None]
        # One triangle: half the work. Seen from C it is the upper one.
        block = ssyrk(1.0, rows.T, c=block, overwrite_c=True, lower=True)
        scatter += block.T
    add_up(scatter, sums)
    for row in range(width - 1):
        scatter[row + 1 :, row] = scatter[row, row + 1 :]
    return WithinClass(scatter, _ledoit_wolf(scatter, *sums))


def _ledoit_wolf(covariance: FloatArray64, fourth: float, squares: float) -> float:
    """Shrinkage of Ledoit and Wolf (2004), for samples of unequal weight.

    gamma = min(b^2, d^2) / d^2 with d^2 = |S - tr(S)/D I|^2 and
    b^2 = sum_i w_i^2 |r_i r_i^T - S|^2, whose cross terms are taken at their mean, |S|^2.

    Args:
        covariance: S, D x D.
        fourth: sum_i w_i^2 |r_i|^4.
        squares: sum_i w_i^2.
    """
    size = float((covariance**2).sum())
    distance = size - float(np.trace(covariance)) ** 2 / len(covariance)
    spread = max(0.0, fourth - squares * size)
    return 1.0 if spread >= distance else spread / distance


def directions(within: WithinClass, shrinkage: float, centered: FloatArray64) -> FloatArray64:
    """d_c = P^-1 v_c / sqrt(v_c.P^-1 v_c), float64 of shape C x D; zeros where v_c is zero.

    P = (1 - gamma) D/tr(S) S + gamma I, as in `alphafix.rivals.discriminant`.

    Args:
        within: S, D x D.
        shrinkage: gamma in 0..1, above 0 where S is singular.
        centered: v_c = m_c - mu, C x D.
    """
    import torch  # whose Cholesky is several times as fast as SciPy's on cores with other work

    width = len(within.covariance)
    trace = float(np.trace(within.covariance))
    metric = within.covariance * ((1 - shrinkage) * width / trace if trace > 0 else 0.0)
    metric[np.diag_indices(width)] += shrinkage if trace > 0 else 1.0
    factor = torch.linalg.cholesky(torch.from_numpy(metric))
    rows = torch.cholesky_solve(torch.from_numpy(centered.T.copy()), factor).numpy().T
    lengths = np.sqrt(np.einsum("cd,cd->c", rows, centered))
    return np.asarray(rows / np.where(lengths > 0, lengths, 1.0)[:, None])
