"""MetaModelNet: a chain of residual blocks from one-shot rows to many-shot rows."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from torch import Tensor

from alphafix.rivals.data import FitData, Offered, linear
from alphafix.rivals.few_shot.shots import CLASSES_A_STEP, Shots
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

    Wang, Ramanan and Hebert 2017, Eq. 3: for k = 2^i shots, 1/2 ||F_i(w_k) - w*||^2 + lambda
    task loss over base classes, w_k a classifier from k samples (`Shots`) and w* the head's
    own row; lambda is chosen on validation. Base rows do not change.
    """
    found = []
    for weight in TASK_WEIGHTS:
        key = ("metamodelnet", weight, steps)
        values, blocks = data.once(key, partial(_rows, data, weight, steps))
        settings = {"task_weight": weight, "blocks": blocks}
        rows, biases = values[:, :-1], values[:, -1]
        few = data.classes.few
        found.append(linear("metamodelnet", data, rows, biases, classes=few, settings=settings))
    return Offered.of(data, found)


def _rows(data: FitData, task_weight: float, steps: int) -> tuple[FloatArray, int]:
    """Train, and return the few-split rows with their biases, F x (D + 1), and the blocks."""
    shots, few = Shots.of(data), data.classes.few
    entries = [entry(int(count)) for count in data.counts[few]]
    chain = Chain(shots.targets.shape[1], max(entries) + 1)
    rng = np.random.default_rng(data.seed)
    for first in reversed(range(len(chain.blocks))):
        _train(chain, first, data, shots, task_weight, steps, rng)
    rows = shots.standard(shots.few_rows())
    with torch.no_grad():
        mapped = [chain(row[None], start)[0] for row, start in zip(rows, entries, strict=True)]
    values: FloatArray = shots.original(torch.stack(mapped)).numpy()
    return values, len(chain.blocks)


def _train(
    chain: Chain,
    first: int,
    data: FitData,
    shots: Shots,
    task_weight: float,
    steps: int,
    rng: np.random.Generator,
) -> None:
    """Train the blocks from ``first`` on with rows of 2^first samples."""
    base, targets = data.classes.base, shots.standard(shots.targets)
    parameters = [p for block in list(chain.blocks)[first:] for p in block.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=1e-3, fused=True)
    for _ in range(steps):
        places = rng.choice(len(base), size=min(CLASSES_A_STEP, len(base)), replace=False)
        drawn = shots.standard(shots.drawn_rows(base[places], 2**first, rng))
        rows = chain(drawn, first)
        regression = 0.5 * (rows - targets[places]).square().mean()
        loss = regression + task_weight * shots.task_loss(shots.original(rows), places, rng)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
