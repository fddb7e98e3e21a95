"""LWS: one learned scale a class."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from alphafix.rivals.material import Fitted, Material, linear
from alphafix.rivals.training import Candidate, Recipe, as_arrays, base_parameters, best_rate, sgd

RECIPE = Recipe(epochs=5, balanced=True)


def fit(material: Material, recipe: Recipe = RECIPE) -> Fitted:
    """z'_c = s_c (w_c x + b_c), only s learned, classes drawn evenly.

    Kang et al. 2020, section 4.1, Eq. 3 (learnable weight scaling).
    """
    weight, bias = (parameter.detach() for parameter in base_parameters(material))

    def train(rate: float) -> Candidate:
        scales = torch.ones(len(weight), requires_grad=True)

        def loss(x: Tensor, y: Tensor) -> Tensor:
            return functional.cross_entropy(scales * functional.linear(x, weight, bias), y)

        sgd([scales], loss, material, recipe, rate)
        return as_arrays(scales[:, None] * weight, scales * bias)

    (rows, biases), rate = best_rate(material, train)
    return linear("lws", material, rows, biases, settings={"lr": rate})
