"""The head retrained with the balanced softmax."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from alphafix.rivals.material import Fitted, Material, linear
from alphafix.rivals.training import Candidate, Recipe, as_arrays, base_parameters, best_rate, sgd

RECIPE = Recipe(epochs=10)


def balanced_softmax(logits: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
    """-log(n_y e^{z_y} / sum_c n_c e^{z_c}), the mean over samples (Ren et al. 2020, Eq. 4)."""
    return functional.cross_entropy(logits + counts.log(), labels)


def fit(material: Material, recipe: Recipe = RECIPE) -> Fitted:
    """Train the base head further with CE(z + log n); the prior is left out when it is used.

    Ren et al. 2020, section 3.
    """
    counts = torch.from_numpy(material.counts).float()

    def train(rate: float) -> Candidate:
        weight, bias = base_parameters(material)
        sgd(
            [weight, bias],
            lambda x, y: balanced_softmax(functional.linear(x, weight, bias), y, counts),
            material,
            recipe,
            rate,
        )
        return as_arrays(weight, bias)

    (rows, biases), rate = best_rate(material, train)
    return linear("balanced-softmax", material, rows, biases, settings={"lr": rate})
