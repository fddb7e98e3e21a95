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

# LADE: the authors' lambda for CIFAR-100-LT.
LAMBDA = 0.01

# Class-balanced weights: the paper's beta for large data sets.
BETA = 0.9999


def balanced_softmax(logits: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
    """-log(n_y e^{z_y} / sum_c n_c e^{z_c}), the mean over samples (Ren et al. 2020, Eq. 4)."""
    return functional.cross_entropy(logits + counts.log(), labels)


def focal_loss(logits: Tensor, labels: Tensor, gamma: float = GAMMA) -> Tensor:
    """-(1 - p_y)^gamma log p_y, the mean over samples (Lin et al. 2017, Eq. 4)."""
    log_p = -functional.cross_entropy(logits, labels, reduction="none")
    return -((1 - log_p.exp()) ** gamma * log_p).mean()


def margins(counts: Tensor) -> Tensor:
    """Delta_c = const / n_c^(1/4), the largest 0.5 (Cao et al. 2019, Eq. 11 and 13)."""
    values = counts**-0.25
    return values * (LARGEST_MARGIN / values.max())


def ldam_loss(cosines: Tensor, labels: Tensor, delta: Tensor) -> Tensor:
    """CE(30 (cos - Delta_y at y)), the mean over samples (Cao et al. 2019, Eq. 12)."""
    lowered = cosines - delta[labels, None] * functional.one_hot(labels, cosines.shape[1])
    return functional.cross_entropy(SCALE * lowered, labels)


def lader(logits: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
    """The regulariser LADER (Hong et al. 2021, section 3.3).

    For each class c with samples in the batch, with p_s the training shares and p_u uniform:

        L_c = -mean_{y_i = c} z_ic + log R_c + lambda (log R_c)^2,
        R_c = mean_i p_u(y_i) / p_s(y_i) e^{z_ic};  the result is sum_c p_s(c) L_c.
    """
    shares = counts / counts.sum()
    weights = (1 / len(shares)) / shares[labels]
    log_r = torch.logsumexp(logits + weights.log()[:, None], dim=0) - math.log(len(labels))
    chosen = functional.one_hot(labels, len(shares)).to(logits.dtype)
    samples = chosen.sum(dim=0)
    own = (chosen * logits).sum(dim=0) / samples.clamp_min(1)
    losses = -own + log_r + LAMBDA * log_r**2
    return (shares * losses * (samples > 0)).sum()


def class_balanced_weights(counts: Tensor, beta: float = BETA) -> Tensor:
    """(1 - beta) / (1 - beta^n_c), scaled to the mean 1 (Cui et al. 2019, Eq. 2)."""
    weights = (1 - beta) / (1 - beta ** counts.double())
    return (weights / weights.mean()).float()
