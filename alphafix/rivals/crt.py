"""cRT: a new linear head, trained with classes drawn evenly."""

from __future__ import annotations

from torch.nn import functional

from alphafix.rivals.material import Fitted, Material, linear
from alphafix.rivals.training import Candidate, Recipe, as_arrays, best_rate, new_parameters, sgd

RECIPE = Recipe(epochs=10, balanced=True)


def fit(material: Material, recipe: Recipe = RECIPE) -> Fitted:
    """Min over new W, b of E_{c uniform} E_{x in c} CE(W x + b, c).

    Kang et al. 2020, section 4.1 (classifier re-training): SGD, cosine learning rate, 10 epochs.
    """

    def train(rate: float) -> Candidate:
        weight, bias = new_parameters(material)
        sgd(
            [weight, bias],
            lambda x, y: functional.cross_entropy(functional.linear(x, weight, bias), y),
            material,
            recipe,
            rate,
        )
        return as_arrays(weight, bias)

    (rows, biases), rate = best_rate(material, train)
    return linear("crt", material, rows, biases, settings={"lr": rate})
