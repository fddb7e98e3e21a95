"""The head retrained with LADE."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from alphafix.rivals.balanced_softmax import balanced_softmax
from alphafix.rivals.material import Fitted, Material, linear
from alphafix.rivals.training import Candidate, Recipe, as_arrays, base_parameters, best_rate, sgd

RECIPE = Recipe(epochs=10)

# The authors' values for CIFAR-100-LT: weight of the regulariser, and its lambda.
WEIGHT = 0.1
LAMBDA = 0.01


def lader(logits: Tensor, labels: Tensor, counts: Tensor, strength: float = LAMBDA) -> Tensor:
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
    losses = -own + log_r + strength * log_r**2
    return (shares * losses * (samples > 0)).sum()


def fit(material: Material, recipe: Recipe = RECIPE) -> Fitted:
    """Train the base head further with the balanced softmax plus 0.1 LADER.

    Hong et al. 2021, section 3.3 (LADE).
    """
    counts = torch.from_numpy(material.counts).float()

    def train(rate: float) -> Candidate:
        weight, bias = base_parameters(material)

        def loss(x: Tensor, y: Tensor) -> Tensor:
            logits = functional.linear(x, weight, bias)
            return balanced_softmax(logits, y, counts) + WEIGHT * lader(logits, y, counts)

        sgd([weight, bias], loss, material, recipe, rate)
        return as_arrays(weight, bias)

    (rows, biases), rate = best_rate(material, train)
    return linear("lade", material, rows, biases, settings={"lr": rate})
