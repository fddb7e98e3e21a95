"""The range loss (Zhang et al. 2017, "Range loss for deep face recognition with long-tail")."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from alphafix.oltr.losses.pairs import same_class, squared_distances, widened

RANGES = 2

# Below this a squared distance counts as this: 1/D and its derivative stay finite.
SMALLEST = 1e-12


def intra_class_ranges(features: Tensor, labels: Tensor, k: int = RANGES) -> Tensor:
    """Sum over classes of the harmonic mean of their k largest ranges.

    A range is the squared distance of two samples of the class. A class with fewer than k
    pairs has the mean of those that it has; one with a single sample has none and adds 0.

    Args:
        features: B x D.
        labels: Class ids, int64 of shape B.
        k: Ranges a class.
    """
    features = widened(features)
    first, second = torch.nonzero(same_class(labels).triu(diagonal=1), as_tuple=True)
    if len(first) == 0:
        return features.sum() * 0
    distances = squared_distances(features, first, second)
    # The pairs of each class in a row, the farthest first.
    far = distances.detach().argsort(descending=True, stable=True)
    order = far[labels[first][far].argsort(stable=True)]
    _, place, sizes = torch.unique_consecutive(
        labels[first][order], return_inverse=True, return_counts=True
    )
    rank = torch.arange(len(order), device=order.device) - (sizes.cumsum(0) - sizes)[place]
    kept = rank < k
    inverse = 1 / distances[order][kept].clamp_min(SMALLEST)
    sums = inverse.new_zeros(len(sizes)).index_add(0, place[kept], inverse)
    means: Tensor = sizes.clamp_max(k) / sums
    return means.sum()


def least_center_distance(features: Tensor, labels: Tensor) -> Tensor | None:
    """Least squared distance of two class means of the batch, or None with one class."""
    features = widened(features)
    classes, place, sizes = torch.unique(labels, return_inverse=True, return_counts=True)
    if len(classes) < 2:
        return None
    sums = features.new_zeros(len(classes), features.shape[1]).index_add(0, place, features)
    centers = sums / sizes[:, None]
    first, second = torch.triu_indices(len(classes), len(classes), offset=1, device=labels.device)
    with torch.no_grad():  # P x D numbers would be kept for one pair's gradient
        nearest = torch.pdist(centers).argmin()
    return squared_distances(centers, first[nearest, None], second[nearest, None])[0]


def range_loss(
    features: Tensor, labels: Tensor, *, margin: float, alpha: float, beta: float
) -> Tensor:
    """Alpha * intra-class ranges + beta * [M - least centre distance]_+.

    The authors add cross-entropy to it. A batch of one class has no second term.

    Args:
        features: B x D.
        labels: Class ids, int64 of shape B.
        margin: M, a squared distance.
        alpha: Weight of the first term.
        beta: Weight of the second.

    Returns:
        A scalar, float32 at least.
    """
    loss = alpha * intra_class_ranges(features, labels)
    nearest = least_center_distance(features, labels)
    return loss if nearest is None else loss + beta * functional.relu(margin - nearest)
