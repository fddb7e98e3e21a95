"""MetaModelNet as the paper has it: residual blocks that begin with batch normalisation."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from alphafix.rivals.data import FitData, Offered, linear
from alphafix.rivals.few_shot.metamodelnet import STEPS, TASK_WEIGHTS, entry
from alphafix.rivals.few_shot.model_regression import objective
from alphafix.rivals.few_shot.shots import CLASSES_A_STEP, Shots
from alphafix.values.arrays import FloatArray


class NormalisedChain(torch.nn.Module):
    """F_i(w) = F_{i+1}(w + f_i(w)), F_L the identity (Wang et al. 2017, Eq. 2).

    f_i is batch normalisation, a leaky ReLU and a linear layer, which starts at zero,
    so that the untrained chain is the identity.
    """

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.norms = torch.nn.ModuleList(torch.nn.BatchNorm1d(width) for _ in range(blocks))
        self.blocks = torch.nn.ModuleList(torch.nn.Linear(width, width) for _ in range(blocks))
        for parameter in self.blocks.parameters():
            torch.nn.init.zeros_(parameter)

    def forward(self, rows: Tensor, start: int) -> Tensor:
        """Rows from 2^start samples through the blocks from ``start`` on, R x (D + 1)."""
        for norm, block in list(zip(self.norms, self.blocks, strict=True))[start:]:
            rows = rows + block(torch.nn.functional.leaky_relu(norm(rows), 0.01))
        return rows

    def parameters_from(self, start: int) -> list[torch.nn.Parameter]:
        """Those of the blocks from ``start`` on."""
        parts = (*list(self.norms)[start:], *list(self.blocks)[start:])
        return [parameter for part in parts for parameter in part.parameters()]


def metamodelnet_normalised(data: FitData, steps: int = STEPS) -> Offered:
    """Few-split rows by the chain, trained on base classes from its last block to its first.

    As `alphafix.rivals.few_shot.metamodelnet`, with the paper's blocks.
    """
    found = data.once(("metamodelnet", steps), partial(_rows, data, steps))
    return Offered.of(
        data,
        [
            linear(
                "metamodelnet",
                data,
                values[:, :-1],
                values[:, -1],
                classes=data.classes.few,
                settings={"task_weight": weight},
            )
            for weight, values in zip(TASK_WEIGHTS, found, strict=True)
        ],
    )


def _rows(data: FitData, steps: int) -> list[FloatArray]:
    """Few-split rows with their biases, F x (D + 1), with each of `TASK_WEIGHTS`."""
    shots = Shots.of(data)
    return [_trained(data, shots, weight, steps) for weight in TASK_WEIGHTS]


def _trained(data: FitData, shots: Shots, task_weight: float, steps: int) -> FloatArray:
    entries = np.array([entry(int(count)) for count in data.counts[data.classes.few]])
    chain = NormalisedChain(shots.targets.shape[1], int(entries.max()) + 1)
    rng = np.random.default_rng(data.seed)
    for first in reversed(range(len(chain.blocks))):
        _train(chain, first, shots, task_weight, steps, rng)
    rows = shots.standard(shots.few_rows())
    mapped = torch.empty_like(rows)
    chain.eval()
    with torch.no_grad():
        for start in np.unique(entries).tolist():
            mine = torch.from_numpy(entries == start)
            mapped[mine] = chain(rows[mine], start)
    values: FloatArray = shots.original(mapped).numpy()
    return values


def _train(
    chain: NormalisedChain,
    first: int,
    shots: Shots,
    task_weight: float,
    steps: int,
    rng: np.random.Generator,
) -> None:
    """Train the blocks from ``first`` on with rows of 2^first samples."""
    base, targets = shots.data.classes.base, shots.standard(shots.targets)
    optimiser = torch.optim.Adam(chain.parameters_from(first), lr=1e-3)
    # The statistics of a single row are none.
    chain.train(len(base) > 1)
    for _ in range(steps):
        shots.data.budget.tick()
        places = rng.choice(len(base), size=min(CLASSES_A_STEP, len(base)), replace=False)
        drawn = shots.standard(shots.drawn_rows(base[places], 2**first, rng))
        rows = chain(drawn, first)
        task_loss = shots.task_loss(shots.original(rows), places, rng)
        loss = objective(rows, targets[places], task_loss, task_weight)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
