"""Losses for long-tailed classes, and the class weights and margins in them."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

# Focal loss: the paper's exponent.
GAMMA = 2.0

# LDAM: the largest margin, and the factor of the cosines.
LARGEST_MARGIN = 0.5
SCALE = 30.0

# LADE: the authors' lambda, the same for every data set in their configurations.
LAMBDA = 0.1

# Class-balanced weights: the paper's beta for large data sets.
BETA = 0.9999


def balanced_softmax(logits: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
    """-log(n_y e^{z_y} / sum_c n_c e^{z_c}), the mean over samples (Ren et al. 2020)."""
    return functional.cross_entropy(logits + counts.log(), labels)


def focal_loss(logits: Tensor, labels: Tensor, gamma: float = GAMMA) -> Tensor:
    """-(1 - p_y)^gamma log p_y, the mean over samples (Lin et al. 2017)."""
    log_p = -functional.cross_entropy(logits, labels, reduction="none")
    return -((1 - log_p.exp()) ** gamma * log_p).mean()


def margins(counts: Tensor) -> Tensor:
    """Delta_c = const / n_c^(1/4), the largest 0.5 (Cao et al. 2019, Eq. 13)."""
    values = counts**-0.25
    return values * (LARGEST_MARGIN / values.max())


def ldam_loss(
    cosines: Tensor, labels: Tensor, delta: Tensor, weights: Tensor | None = None
) -> Tensor:
    """CE(30 (cos - Delta_y at y)), the mean over samples (Cao et al. 2019, Eq. 12).

    Args:
        cosines: n x C.
        labels: n class ids.
        delta: Margins, C.
        weights: Of the classes, C, or None: the mean is then weighted by them.
    """
    lowered = cosines.scatter_add(1, labels[:, None], -delta[labels, None])
    return functional.cross_entropy(SCALE * lowered, labels, weight=weights)


def lader(logits: Tensor, labels: Tensor, counts: Tensor, strength: float = LAMBDA) -> Tensor:
    """The regulariser LADER (Hong et al. 2021, section 3.3), as in the authors' code.

    For each class c, with p_s the training shares and p_u uniform:

        L_c = -mean_{y_i = c} z_ic + log R_c + lambda (log R_c)^2,
        R_c = p_u(c) / p_s(c) mean_i e^{z_ic};  the result is sum_c p_s(c) L_c.

    The paper's R_c weighs each sample by its own label, p_u(y_i) / p_s(y_i), instead. A class
    without samples in the batch has no first term.
    """
    shares = counts / counts.sum()
    log_r = torch.logsumexp(logits, dim=0) - math.log(len(labels))
    log_r = log_r - shares.log() - math.log(len(shares))
    chosen = logits.gather(1, labels[:, None])[:, 0]
    own = torch.zeros_like(shares).index_add(0, labels, chosen)
    own = own / labels.bincount(minlength=len(shares)).clamp_min(1)
    return (shares * (log_r + strength * log_r**2 - own)).sum()


def inverse_weights(counts: Tensor) -> Tensor:
    """1 / n_c, scaled to the mean 1: what makes a loss sensitive to the cost of rare classes."""
    weights = 1 / counts.double()
    return (weights / weights.mean()).float()


def class_balanced_weights(counts: Tensor, beta: float = BETA) -> Tensor:
    """(1 - beta) / (1 - beta^n_c), scaled to the mean 1 (Cui et al. 2019)."""
    weights = (1 - beta) / (1 - beta ** counts.double())
    return (weights / weights.mean()).float()
