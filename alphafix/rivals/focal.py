"""The head retrained with the focal loss."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from alphafix.rivals.material import Fitted, Material, linear
from alphafix.rivals.training import Candidate, Recipe, as_arrays, base_parameters, best_rate, sgd

RECIPE = Recipe(epochs=10)
GAMMA = 2.0


def focal_loss(logits: Tensor, labels: Tensor, gamma: float = GAMMA) -> Tensor:
    """-(1 - p_y)^gamma log p_y, the mean over samples (Lin et al. 2017, Eq. 4)."""
    log_p = -functional.cross_entropy(logits, labels, reduction="none")
    return -((1 - log_p.exp()) ** gamma * log_p).mean()


def fit(material: Material, recipe: Recipe = RECIPE) -> Fitted:
    """Train the base head further with the focal loss, gamma = 2 (Lin et al. 2017)."""

    def train(rate: float) -> Candidate:
        weight, bias = base_parameters(material)
        sgd(
            [weight, bias],
            lambda x, y: focal_loss(functional.linear(x, weight, bias), y),
            material,
            recipe,
            rate,
        )
        return as_arrays(weight, bias)

    (rows, biases), rate = best_rate(material, train)
    return linear("focal", material, rows, biases, settings={"lr": rate})
