"""Model regression by discriminants: from the row of few samples to the row of many."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from alphafix.rivals.data import FitData, Offered, linear
from alphafix.rivals.few_shot.mappings import Mappings
from alphafix.rivals.few_shot.shots import CLASSES_A_STEP, Shots
from alphafix.rivals.training import Adam
from alphafix.values.arrays import FloatArray

STEPS = 1000
TASK_WEIGHTS = (0.01, 0.1, 1.0)


def model_regression(data: FitData, steps: int = STEPS) -> Offered:
    """w_c = T(w0_c), T an MLP with 1/2 ||T(w0_j) - w*_j||^2 + lambda task loss over base classes.

    As Wang and Hebert 2016, but w0 is a discriminant of few samples (`Shots`), w* the head's own
    row, and the task loss the cross-entropy with the regressed rows in place, where the paper has
    support vector machines and the hinge loss (`model_regression_svm`), which give up the base
    head. lambda is chosen on validation. Base rows do not change. Neither form gained
    anything within the limits on validation (examples/evidence/few_shot.py).
    """
    found = data.once(("model-regression-lda", steps), partial(_rows, data, steps))
    return Offered.of(
        data,
        [
            linear(
                "model-regression-lda",
                data,
                values[:, :-1],
                values[:, -1],
                classes=data.classes.few,
                settings={"task_weight": weight},
            )
            for weight, values in zip(TASK_WEIGHTS, found, strict=True)
        ],
    )


def _rows(data: FitData, steps: int) -> FloatArray:
    """Few-split rows with their biases, F x (D + 1), with each of `TASK_WEIGHTS`."""
    shots, rng = Shots.of(data), np.random.default_rng(data.seed)
    weights = torch.tensor(TASK_WEIGHTS)
    models = Mappings(_network(shots.targets.shape[1], data.seed), len(weights))
    targets = shots.standard(shots.targets)
    optimiser = Adam(models.parameters.values(), 1e-3)
    few, base = data.classes.few, data.classes.base
    for _ in range(steps):
        data.budget.tick()
        places = rng.choice(len(base), size=min(CLASSES_A_STEP, len(base)), replace=False)
        # As many samples as one of the classes has that the mapping is for.
        count = int(rng.choice(data.counts[few]))
        rows = models(shots.standard(shots.drawn_rows(base[places], count, rng)))
        task_loss = shots.task_loss(shots.original(rows), places, rng)
        loss = objective(rows, targets[places], task_loss, weights)
        optimiser.step(loss.sum())
    with torch.no_grad():
        found: FloatArray = shots.original(models(shots.standard(shots.few_rows()))).numpy()
    return found


def objective(rows: Tensor, targets: Tensor, task_loss: Tensor, weight: float | Tensor) -> Tensor:
    """1/2 ||T(w0) - w*||^2 + lambda task loss (Wang and Hebert 2016; the paper was not at hand).

    The square is a mean over classes and entries, so that lambda means the same at any size.

    Args:
        rows: Regressed rows with their biases, float32 of shape n x (D + 1); those of several
            mappings M x n x (D + 1).
        targets: The base classes' own rows, n x (D + 1).
        task_loss: Loss of the regressed rows as classifiers, a scalar or one a mapping.
        weight: lambda, likewise.
    """
    return 0.5 * (rows - targets).square().mean(dim=(-2, -1)) + weight * task_loss


def _network(width: int, seed: int) -> torch.nn.Module:
    """An MLP with two hidden layers as wide as its input, drawn from the seed as PyTorch does."""
    generator, bound = torch.Generator().manual_seed(seed), width**-0.5
    # Made without values: PyTorch would draw them from the one generator that threads share.
    layers = [torch.nn.Linear(width, width, device="meta").to_empty(device="cpu") for _ in range(3)]
    for layer in layers:
        for parameter in layer.parameters():
            torch.nn.init.uniform_(parameter, -bound, bound, generator=generator)
    first, second, last = layers
    rectified = torch.nn.LeakyReLU(0.01)
    return torch.nn.Sequential(first, rectified, second, rectified, last)
