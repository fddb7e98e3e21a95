"""The head retrained with label-distribution-aware margins."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from alphafix.rivals.material import Fitted, Material, linear
from alphafix.rivals.training import Candidate, Recipe, as_arrays, base_parameters, best_rate, sgd

RECIPE = Recipe(epochs=10)
LARGEST_MARGIN = 0.5
SCALE = 30.0


def margins(counts: Tensor) -> Tensor:
    """Delta_c = const / n_c^(1/4), the largest 0.5 (Cao et al. 2019, Eq. 11 and 13)."""
    values = counts**-0.25
    return values * (LARGEST_MARGIN / values.max())


def ldam_loss(cosines: Tensor, labels: Tensor, delta: Tensor) -> Tensor:
    """CE(30 (cos - Delta_y at y)), the mean over samples (Cao et al. 2019, Eq. 12)."""
    lowered = cosines - delta[labels, None] * functional.one_hot(labels, cosines.shape[1])
    return functional.cross_entropy(SCALE * lowered, labels)


def fit(material: Material, recipe: Recipe = RECIPE) -> Fitted:
    """Train the base head's directions further with LDAM on normalised features and rows.

    The length of a feature is common to all classes, so that the normalised rows rank as the
    trained classifier does: a linear head without bias.
    """
    delta = margins(torch.from_numpy(material.counts).float())

    def train(rate: float) -> Candidate:
        weight, bias = base_parameters(material)

        def loss(x: Tensor, y: Tensor) -> Tensor:
            cosines = functional.linear(functional.normalize(x), functional.normalize(weight))
            return ldam_loss(cosines, y, delta)

        sgd([weight], loss, material, recipe, rate)
        return as_arrays(SCALE * functional.normalize(weight), torch.zeros_like(bias))

    (rows, biases), rate = best_rate(material, train)
    return linear("ldam", material, rows, biases, settings={"lr": rate})
