"""What the losses on pairs of samples share: distances, and which pairs are of one class."""

from __future__ import annotations

import torch
from torch import Tensor


def widened(features: Tensor) -> Tensor:
    """Features in float32 at least: sums of squares overflow and cancel in half precision."""
    return features.float() if features.dtype in (torch.float16, torch.bfloat16) else features


def same_class(labels: Tensor) -> Tensor:
    """Whether two samples are of one class, bool of shape B x B; a sample and itself are."""
    return labels[:, None] == labels[None, :]


def squared_distances(features: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """||f_i - f_j||^2 of P pairs, shape P.

    Args:
        features: B x D.
        first: The indices i, int64 of shape P.
        second: The indices j.
    """
    return (features[first] - features[second]).square().sum(dim=1)
