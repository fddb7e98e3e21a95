"""Model regression: from the row of few samples to the row of many."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from alphafix.rivals.data import FitData, Offered, linear
from alphafix.rivals.few_shot.shots import CLASSES_A_STEP, Shots
from alphafix.values.arrays import FloatArray

STEPS = 1000
TASK_WEIGHTS = (0.01, 0.1, 1.0)


def model_regression(data: FitData, steps: int = STEPS) -> Offered:
    """w_c = T(w0_c), T an MLP with 1/2 ||T(w0_j) - w*_j||^2 + lambda task loss over base classes.

    Wang and Hebert 2016, Eq. 2. w0 is a classifier from few samples (`Shots`), w* the head's
    own row; the task loss is the cross-entropy with the regressed rows in place (the paper's
    hinge loss is for one-against-all classifiers). lambda is chosen on validation. Base rows
    do not change.
    """
    found = []
    for weight in TASK_WEIGHTS:
        key = ("model-regression", weight, steps)
        values = data.once(key, partial(_rows, data, weight, steps))
        settings, few = {"task_weight": weight}, data.classes.few
        rows, biases = values[:, :-1], values[:, -1]
        found.append(linear("model-regression", data, rows, biases, classes=few, settings=settings))
    return Offered.of(data, found)


def _rows(data: FitData, task_weight: float, steps: int) -> FloatArray:
    """Train, and return the few-split rows with their biases, F x (D + 1)."""
    shots = Shots.of(data)
    rng = np.random.default_rng(data.seed)
    model = _network(shots.targets.shape[1], data.seed)
    targets = shots.standard(shots.targets)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    few, base = data.classes.few, data.classes.base
    for _ in range(steps):
        places = rng.choice(len(base), size=min(CLASSES_A_STEP, len(base)), replace=False)
        # As many samples as one of the classes has that the mapping is for.
        count = int(rng.choice(data.counts[few]))
        rows = model(shots.standard(shots.drawn_rows(base[places], count, rng)))
        task_loss = shots.task_loss(shots.original(rows), places, rng)
        loss = objective(rows, targets[places], task_loss, task_weight)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
    with torch.no_grad():
        found: FloatArray = shots.original(model(shots.standard(shots.few_rows()))).numpy()
    return found


def objective(rows: Tensor, targets: Tensor, task_loss: Tensor, weight: float) -> Tensor:
    """1/2 ||T(w0) - w*||^2 + lambda task loss (Wang and Hebert 2016, Eq. 2).

    The square is a mean over classes and entries, so that lambda means the same at any size.

    Args:
        rows: Regressed rows with their biases, float32 of shape n x (D + 1).
        targets: The base classes' own rows, likewise.
        task_loss: Loss of the regressed rows as classifiers, a scalar.
        weight: lambda.
    """
    return 0.5 * (rows - targets).square().mean() + weight * task_loss


def _network(width: int, seed: int) -> torch.nn.Module:
    """An MLP with two hidden layers as wide as its input, drawn from the seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return torch.nn.Sequential(
            torch.nn.Linear(width, width),
            torch.nn.LeakyReLU(0.01),
            torch.nn.Linear(width, width),
            torch.nn.LeakyReLU(0.01),
            torch.nn.Linear(width, width),
        )
