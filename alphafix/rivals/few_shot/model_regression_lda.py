"""Model regression with discriminants in place of support vector machines."""

from __future__ import annotations

import numpy as np
import torch

from alphafix.rivals.data import FitData, Fitted, Offered, linear
from alphafix.rivals.few_shot.model_regression import objective
from alphafix.rivals.few_shot.shots import CLASSES_A_STEP, Shots

STEPS = 1000
TASK_WEIGHTS = (0.01, 0.1, 1.0)


def model_regression_lda(data: FitData, steps: int = STEPS) -> Offered:
    """Few-split rows T(w0) in a head whose base rows do not change.

    As `alphafix.rivals.few_shot.model_regression`, but w0 is a discriminant of few samples
    (`Shots`), w* the head's own row, and the task loss the cross-entropy with the regressed rows
    in place; T has three layers. On the demo's images it is better by far than the paper's
    support vector machines against each other, which give up the base head.
    """
    shots = Shots.of(data)
    found = [_fit(data, shots, weight, steps) for weight in TASK_WEIGHTS]
    return Offered.of(data, found)


def _fit(data: FitData, shots: Shots, task_weight: float, steps: int) -> Fitted:
    rng = np.random.default_rng(data.seed)
    model = _network(shots.targets.shape[1], data.seed)
    targets = shots.standard(shots.targets)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
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
        rows = shots.original(model(shots.standard(shots.few_rows()))).numpy()
    return linear(
        "model-regression-lda",
        data,
        rows[:, :-1],
        rows[:, -1],
        classes=few,
        settings={"task_weight": task_weight},
    )


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
