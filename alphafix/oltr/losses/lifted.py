"""The lifted structure loss (Song et al. 2016, "... via lifted structured feature embedding")."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from alphafix.oltr.losses.pairs import same_class, widened

MARGIN = 1.0


def lifted_loss(features: Tensor, labels: Tensor, margin: float = MARGIN) -> Tensor:
    """1/(2|P|) sum over positive pairs (i, j) of [J_ij]_+^2 (Song et al. 2016, Eq. 4).

        J_ij = log(sum_{k: y_k != y_i} e^(m - D_ik) + sum_{l: y_l != y_j} e^(m - D_jl)) + D_ij

    with D the Euclidean distance. 0 for a batch without positive pairs, and, as the logarithm
    of an empty sum is minus infinity, for a batch of one class.

    Args:
        features: B x D.
        labels: Class ids, int64 of shape B.
        margin: m.

    Returns:
        A scalar, float32 at least.
    """
    features = widened(features)
    same = same_class(labels)
    first, second = torch.nonzero(same.triu(diagonal=1), as_tuple=True)
    if len(first) == 0 or bool(same.all()):
        return features.sum() * 0  # zero, with a gradient of zeros
    distances = torch.cdist(features, features)
    # With two classes or more every sample has a negative, so that each sum has a term.
    repelled = (margin - distances).masked_fill(same, -torch.inf).logsumexp(dim=1)
    lifted = torch.logaddexp(repelled[first], repelled[second]) + distances[first, second]
    return functional.relu(lifted).square().mean() / 2
