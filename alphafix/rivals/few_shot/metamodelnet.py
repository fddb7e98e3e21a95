"""MetaModelNet without normalisation: residual blocks from one-shot rows to many-shot rows."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from torch import Tensor

from alphafix.rivals.data import FitData, Offered, linear
from alphafix.rivals.few_shot.mappings import Mappings
from alphafix.rivals.few_shot.model_regression import objective
from alphafix.rivals.few_shot.shots import CLASSES_A_STEP, Shots
from alphafix.rivals.training import Adam
from alphafix.values.arrays import FloatArray

STEPS = 300
TASK_WEIGHTS = (0.01, 0.1, 1.0)


class Chain(torch.nn.Module):
    """F_i(w) = F_{i+1}(w + f_i(w)), F_L the identity (Wang et al. 2017, Eq. 2).

    f_i is a LeakyReLU and a linear layer that starts at zero, so that the untrained chain is
    the identity.
    """

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList(torch.nn.Linear(width, width) for _ in range(blocks))
        for parameter in self.parameters():
            torch.nn.init.zeros_(parameter)

    def forward(self, rows: Tensor, start: int) -> Tensor:
        """Rows from 2^start samples through the blocks from ``start`` on, R x (D + 1)."""
        for block in list(self.blocks)[start:]:
            rows = rows + block(torch.nn.functional.leaky_relu(rows, 0.01))
        return rows


def entry(samples: int) -> int:
    """The block at which a class with so many samples enters: floor(log2 n)."""
    return int(math.log2(samples))


def metamodelnet(data: FitData, steps: int = STEPS) -> Offered:
    """Few-split rows by the chain, trained on base classes from its last block to its first.

    Wang, Ramanan and Hebert 2017, in a simpler form: for k = 2^i shots, 1/2 ||F_i(w_k) - w*||^2 +
    lambda task loss over base classes, w_k a discriminant of k samples (`Shots`) and w* the head's
    own row; lambda is chosen on validation. Base rows do not change. The paper's blocks have two
    layers with batch normalisation (`metamodelnet_normalised`). This form gained nothing within
    the limits on validation (examples/evidence/few_shot.py).
    """
    found, blocks = data.once(("metamodelnet-plain", steps), partial(_rows, data, steps))
    return Offered.of(
        data,
        [
            linear(
                "metamodelnet-plain",
                data,
                values[:, :-1],
                values[:, -1],
                classes=data.classes.few,
                settings={"task_weight": weight, "blocks": blocks},
            )
            for weight, values in zip(TASK_WEIGHTS, found, strict=True)
        ],
    )


def _rows(data: FitData, steps: int) -> tuple[FloatArray, int]:
    """Few-split rows with their biases, with each of `TASK_WEIGHTS`, and the number of blocks."""
    few, shots = data.classes.few, Shots.of(data)
    entries = np.array([entry(int(count)) for count in data.counts[few]])
    blocks = int(entries.max()) + 1
    chains = Mappings(Chain(shots.targets.shape[1], blocks), len(TASK_WEIGHTS))
    rng = np.random.default_rng(data.seed)
    for first in reversed(range(blocks)):
        _train(chains, first, shots, steps, rng)
    rows = shots.standard(shots.few_rows())
    mapped = torch.empty(len(TASK_WEIGHTS), *rows.shape)
    with torch.no_grad():
        for start in np.unique(entries).tolist():
            mine = torch.from_numpy(entries == start)
            mapped[:, mine] = chains(rows[mine], start)
    found: FloatArray = shots.original(mapped).numpy()
    return found, blocks


def _train(
    chains: Mappings, first: int, shots: Shots, steps: int, rng: np.random.Generator
) -> None:
    """Train the blocks from ``first`` on with rows of 2^first samples."""
    base, targets = shots.data.classes.base, shots.standard(shots.targets)
    parameters = [
        parameter
        for name, parameter in chains.parameters.items()
        if int(name.split(".")[1]) >= first  # blocks.0.weight
    ]
    weights = torch.tensor(TASK_WEIGHTS)
    optimiser = Adam(parameters, 1e-3)
    for _ in range(steps):
        shots.data.budget.tick()
        places = rng.choice(len(base), size=min(CLASSES_A_STEP, len(base)), replace=False)
        drawn = shots.standard(shots.drawn_rows(base[places], 2**first, rng))
        rows = chains(drawn, first)
        task_loss = shots.task_loss(shots.original(rows), places, rng)
        loss = objective(rows, targets[places], task_loss, weights)
        optimiser.step(loss.sum())
