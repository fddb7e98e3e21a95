"""The losses that compare the samples of a batch: lifted structure loss and range loss.

Song et al. 2016, "Deep metric learning via lifted structured feature embedding", and Zhang et al.
2017, "Range loss for deep face recognition with long-tail". Shapes: features are B x D, labels
int64 of shape B; losses are scalars of float32 at least.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

MARGIN = 1.0

RANGES = 2

# Below this a squared distance counts as this: 1/D and its derivative stay finite.
SMALLEST = 1e-12


def lifted_loss(features: Tensor, labels: Tensor) -> Tensor:
    """1/(2|P|) sum over positive pairs (i, j) of [J_ij]_+^2 (Song et al. 2016, the smooth bound).

        J_ij = log(sum_{k: y_k != y_i} e^(m - D_ik) + sum_{l: y_l != y_j} e^(m - D_jl)) + D_ij

    with m = 1 and D the Euclidean distance, as the authors' layer for Caffe computes it. 0 for a
    batch without positive pairs, and, as the logarithm of an empty sum is minus infinity, for one
    of a single class.
    """
    features = _widened(features)
    same = labels[:, None] == labels  # a sample and itself too
    first, second = torch.nonzero(same.triu(diagonal=1), as_tuple=True)
    if len(first) == 0 or bool(same.all()):
        return features.sum() * 0  # zero, with a gradient of zeros
    distances = torch.cdist(features, features)
    # With two classes or more every sample has a negative, so that each sum has a term.
    repelled = (MARGIN - distances).masked_fill(same, -torch.inf).logsumexp(dim=1)
    lifted = torch.logaddexp(repelled[first], repelled[second]) + distances[first, second]
    return functional.relu(lifted).square().mean() / 2


def intra_class_ranges(features: Tensor, labels: Tensor) -> Tensor:
    """Sum over classes of the harmonic mean of their k = 2 largest ranges.

    A range is the squared distance of two samples of the class. A class with fewer than k
    pairs has the mean of those that it has; one with a single sample has none and adds 0.
    """
    features = _widened(features)
    first, second = torch.nonzero((labels[:, None] == labels).triu(diagonal=1), as_tuple=True)
    if len(first) == 0:
        return features.sum() * 0
    distances = (features[first] - features[second]).square().sum(dim=1)
    # The pairs of each class in a row, the farthest first.
    far = distances.detach().argsort(descending=True, stable=True)
    order = far[labels[first][far].argsort(stable=True)]
    _, place, sizes = torch.unique_consecutive(
        labels[first][order], return_inverse=True, return_counts=True
    )
    rank = torch.arange(len(order), device=order.device) - (sizes.cumsum(0) - sizes)[place]
    kept = rank < RANGES
    inverse = 1 / distances[order][kept].clamp_min(SMALLEST)
    sums = inverse.new_zeros(len(sizes)).index_add(0, place[kept], inverse)
    means: Tensor = sizes.clamp_max(RANGES) / sums
    return means.sum()


def least_center_distance(features: Tensor, labels: Tensor) -> Tensor | None:
    """Least squared distance of two class means of the batch, or None with one class."""
    features = _widened(features)
    classes, place, sizes = torch.unique(labels, return_inverse=True, return_counts=True)
    if len(classes) < 2:
        return None
    sums = features.new_zeros(len(classes), features.shape[1]).index_add(0, place, features)
    centers = sums / sizes[:, None]
    first, second = torch.triu_indices(len(classes), len(classes), offset=1, device=labels.device)
    with torch.no_grad():  # P x D numbers would be kept for one pair's gradient
        nearest = torch.pdist(centers).argmin()
    least: Tensor = (centers[first[nearest]] - centers[second[nearest]]).square().sum()
    return least


def range_loss(
    features: Tensor, labels: Tensor, *, margin: float, alpha: float, beta: float
) -> Tensor:
    """Alpha * intra-class ranges + beta * [M - least centre distance]_+.

    M is a squared distance. A batch of one class has no second term.
    """
    loss = alpha * intra_class_ranges(features, labels)
    nearest = least_center_distance(features, labels)
    return loss if nearest is None else loss + beta * functional.relu(margin - nearest)


def _widened(features: Tensor) -> Tensor:
    """Features in float32 at least: sums of squares overflow and cancel in half precision."""
    return features.float() if features.dtype in (torch.float16, torch.bfloat16) else features
