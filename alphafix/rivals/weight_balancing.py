"""Weight balancing, stage 2: class-balanced loss, weight decay and MaxNorm."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from alphafix.rivals.material import Fitted, Material, linear
from alphafix.rivals.training import Candidate, Recipe, as_arrays, base_parameters, best_rate, sgd

RECIPE = Recipe(epochs=10, decay=0.1, batch=64)
BETA = 0.9999
RATES = (0.001, 0.01, 0.1)

# The ball's radius as a multiple of the base rows' median norm; validation chooses.
RADII = (0.25, 0.5, 1.0)


def class_weights(counts: Tensor, beta: float = BETA) -> Tensor:
    """(1 - beta) / (1 - beta^n_c), scaled to the mean 1 (Cui et al. 2019, Eq. 2)."""
    weights = (1 - beta) / (1 - beta ** counts.double())
    return (weights / weights.mean()).float()


def project(weight: Tensor, radius: float) -> None:
    """Scale rows longer than ``radius`` back to it, in place (Alshammari et al. 2022, MaxNorm)."""
    with torch.no_grad():
        norms = weight.norm(dim=1, keepdim=True)
        weight *= (radius / norms.clamp_min(radius)).clamp_max(1)


def fit(material: Material, recipe: Recipe = RECIPE) -> Fitted:
    """Train the base head further: class-balanced CE, decay 0.1, rows in a ball after each epoch.

    Alshammari et al. 2022, section 4 (stage 2; its stage 1 changes the backbone).
    """
    weights = class_weights(torch.from_numpy(material.counts))
    scale = material.head.scale
    median = float(np.median(np.linalg.norm(material.head.weight * scale, axis=1)))

    def train(rate: float, radius: float) -> Candidate:
        weight, bias = base_parameters(material)

        def loss(x: Tensor, y: Tensor) -> Tensor:
            return functional.cross_entropy(functional.linear(x, weight, bias), y, weight=weights)

        sgd(
            [weight, bias],
            loss,
            material,
            recipe,
            rate,
            after_epoch=lambda: project(weight, radius),
        )
        return as_arrays(weight, bias)

    found = []
    for multiple in RADII:
        radius = multiple * median
        (rows, biases), rate = best_rate(material, partial(train, radius=radius), RATES)
        settings = {"lr": rate, "radius": radius}
        found.append(linear("weight-balancing", material, rows, biases, settings=settings))
    return max(found, key=lambda one: one.val["overall"] or 0.0)
