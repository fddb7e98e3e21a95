"""MetaModelNet: a chain of residual blocks from one-shot rows to many-shot rows."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from alphafix.rivals.data import FitData, Fitted, Offered, linear
from alphafix.rivals.few_shot.shots import CLASSES_A_STEP, Shots

STEPS = 300
TASK_WEIGHTS = (0.01, 0.1, 1.0)


class Chain(torch.nn.Module):
    """F_i(w) = F_{i+1}(w + f_i(w)), F_L the identity (Wang et al. 2017, Eq. 2).

    f_i is batch normalisation, a leaky ReLU and a linear layer (section 3.1), which starts at zero,
    so that the untrained chain is the identity.

    Args:
        width: D + 1.
        blocks: L.
        normalise: Whether there is batch normalisation.
    """

    def __init__(self, width: int, blocks: int, *, normalise: bool = True) -> None:
        super().__init__()
        self.norms = torch.nn.ModuleList(
            torch.nn.BatchNorm1d(width) if normalise else torch.nn.Identity() for _ in range(blocks)
        )
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


def entry(samples: int) -> int:
    """The block at which a class with so many samples enters: floor(log2 n)."""
    return int(math.log2(samples))


def metamodelnet(data: FitData, steps: int = STEPS, *, normalise: bool = True) -> Offered:
    """Few-split rows by the chain, trained on base classes from its last block to its first.

    Wang, Ramanan and Hebert 2017, Eq. 3: for k = 2^i shots, 1/2 ||F_i(w_k) - w*||^2 + lambda
    task loss over base classes, w_k a classifier from k samples (`Shots`) and w* the head's
    own row; lambda is chosen on validation. Base rows do not change.

    Batch normalisation is the paper's, which has base classes and few-split ones of one
    distribution. Without it (`metamodelnet-plain`) few-split accuracy on the demo's images is 71%
    in place of 17%.

    Args:
        data: What to fit on.
        steps: Steps of each block's training.
        normalise: Whether blocks begin with batch normalisation.
    """
    shots = Shots.of(data)
    name = "metamodelnet" if normalise else "metamodelnet-plain"
    found = [_fit(name, data, shots, weight, steps) for weight in TASK_WEIGHTS]
    return Offered.of(data, found)


def _fit(name: str, data: FitData, shots: Shots, task_weight: float, steps: int) -> Fitted:
    few = data.classes.few
    entries = [entry(int(count)) for count in data.counts[few]]
    normalise = name == "metamodelnet"
    chain = Chain(shots.targets.shape[1], max(entries) + 1, normalise=normalise)
    rng = np.random.default_rng(data.seed)
    for first in reversed(range(len(chain.blocks))):
        _train(chain, first, data, shots, task_weight, steps, rng)
    rows = shots.standard(shots.few_rows())
    chain.eval()
    with torch.no_grad():
        mapped = [chain(row[None], start)[0] for row, start in zip(rows, entries, strict=True)]
    values = shots.original(torch.stack(mapped)).numpy()
    return linear(
        name,
        data,
        values[:, :-1],
        values[:, -1],
        classes=few,
        settings={"task_weight": task_weight, "blocks": len(chain.blocks)},
    )


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
    optimiser = torch.optim.Adam(chain.parameters_from(first), lr=1e-3)
    # The statistics of a single row are none.
    chain.train(len(base) > 1)
    for _ in range(steps):
        places = rng.choice(len(base), size=min(CLASSES_A_STEP, len(base)), replace=False)
        drawn = shots.standard(shots.drawn_rows(base[places], 2**first, rng))
        rows = chain(drawn, first)
        regression = 0.5 * (rows - targets[places]).square().mean()
        loss = regression + task_weight * shots.task_loss(shots.original(rows), places, rng)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
