"""The losses of discriminative centroids.

Shapes: features f (or v) are floats of B x D, labels y int64 of B, centroids c of C x D; c_y is
the centroid of a sample's class. The losses are scalars of a whole batch: n_c and the means are
not sums over parts of it, so several processes must gather their samples first
(`alphafix.oltr.training.loop.gather_output`).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def attraction(features: Tensor, labels: Tensor, centroids: Tensor) -> Tensor:
    """½ Σ‖f − c_y‖² / B."""
    return (features - centroids[labels]).square().sum() / (2 * len(labels))


def centroid_pull(features: Tensor, labels: Tensor, centroids: Tensor) -> Tensor:
    """½ Σ‖f − c_y‖² / (1 + n_y) / B, with n_c the samples of class c in the batch.

    Its gradient for c is the official one, Σ over the class of (c − f)/(1 + n_c)/B: the 1 damps
    the step of classes with few samples in the batch.
    """
    counts = (labels[:, None] == labels).sum(1)  # n_y of each sample
    weights = 1 / (1 + counts.to(centroids.dtype))
    squares = (features - centroids[labels]).square().sum(1)
    return (weights * squares).sum() / (2 * len(labels))


def repulsion(features: Tensor, labels: Tensor, centroids: Tensor, margin: float) -> Tensor:
    """relu(m − Σ_n Σ_{c≠y_n} ‖f_n − c‖² / (B·C)) with the margin m.

    The double sum is expanded to Σ‖f‖², Σ‖c‖² and one product of sums, so it takes no B x C
    array.
    """
    batch, classes = len(features), len(centroids)
    everything = (
        classes * features.square().sum()
        + batch * centroids.square().sum()
        - 2 * (features.sum(0) * centroids.sum(0)).sum()
    )
    own = (features - centroids[labels]).square().sum()
    return functional.relu(margin - (everything - own) / (batch * classes))


def official_loss(
    features: Tensor,
    labels: Tensor,
    centroids: Tensor,
    *,
    weight: float,
    margin: float,
    repulsion_weight: float,
) -> Tensor:
    """W · (attraction + ρ · repulsion), with the official gradient for the centroids.

    Features get the gradient of this value. Centroids get that of the repelling part, and from
    the attracting part Σ(c − f)/(1 + n_c)/B, which neither is the gradient of the value nor is
    scaled by w.
    """
    features, centroids = _exact(features, centroids)
    attract = attraction(features, labels, centroids.detach())
    repel = repulsion(features, labels, centroids, margin)
    # Its value is subtracted again: it is there for its gradient. As a term of the loss it is
    # scaled along with it where fp16 gradients are, which a gradient made by hand would not be.
    pull = centroid_pull(features.detach(), labels, centroids)
    return weight * (attract + repulsion_weight * repel) + (pull - pull.detach())


def margin_loss(features: Tensor, labels: Tensor, centroids: Tensor, margin: float) -> Tensor:
    """Mean over samples of max(0, ‖v − c_y‖ − Σ_{i≠y} ‖v − c_i‖ + m) (OLTR, Eq. 9).

    As the paper has it, the distances to all other classes are summed, so with many classes the
    loss is soon zero. The mean stands for the paper's sum over samples, as in its
    cross-entropy.
    """
    features, centroids = _exact(features, centroids)
    distances = torch.cdist(features, centroids)
    own = distances.gather(1, labels.unsqueeze(1)).squeeze(1)
    return functional.relu(2 * own - distances.sum(1) + margin).mean()


def _exact(features: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Both in one type of 32 bits at least: sums of squares need them."""
    exact = torch.promote_types(features.dtype, torch.float32)
    return features.to(exact), centroids.to(exact)
