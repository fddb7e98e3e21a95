"""MetaModelNet as the paper has it: residual blocks that begin with batch normalisation."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import leaky_relu

from alphafix.rivals.data import FitData, Offered, linear
from alphafix.rivals.few_shot.metamodelnet import STEPS, TASK_WEIGHTS, entry
from alphafix.rivals.few_shot.model_regression import objective
from alphafix.rivals.few_shot.shots import CLASSES_A_STEP, Shots
from alphafix.values.arrays import FloatArray, IntArray


class Block(torch.nn.Module):
    """f(w) = W_2 a(N_2(W_1 a(N_1(w)))), a a leaky ReLU and N batch normalisation.

    W_1 is drawn from the seed as PyTorch does, and W_2 starts at zero.

    Args:
        width: D + 1.
        generator: Draws W_1.
    """

    def __init__(self, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.norms = torch.nn.ModuleList(torch.nn.BatchNorm1d(width) for _ in range(2))
        # Made without values: PyTorch would draw them from the one generator that threads share.
        self.layers = torch.nn.ModuleList(
            torch.nn.Linear(width, width, device="meta").to_empty(device="cpu") for _ in range(2)
        )
        for layer, bound in zip(self.layers, (width**-0.5, 0.0), strict=True):
            for parameter in layer.parameters():
                torch.nn.init.uniform_(parameter, -bound, bound, generator=generator)

    def forward(self, rows: Tensor) -> Tensor:
        """What is added to rows, R x (D + 1)."""
        for norm, layer in zip(self.norms, self.layers, strict=True):
            rows = layer(leaky_relu(norm(rows), 0.01))
        return rows


class NormalisedChain(torch.nn.Module):
    """F_i(w) = F_{i+1}(w + f_i(w)), F_L the identity (Wang et al. 2017, Eq. 2).

    f_i is a `Block`, so that the untrained chain is the identity.
    """

    def __init__(self, width: int, blocks: int, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.blocks = torch.nn.ModuleList(Block(width, generator) for _ in range(blocks))

    def forward(self, rows: Tensor, start: int) -> Tensor:
        """Rows from 2^start samples through the blocks from ``start`` on, R x (D + 1)."""
        for block in list(self.blocks)[start:]:
            rows = rows + block(rows)
        return rows

    def parameters_from(self, start: int) -> list[torch.nn.Parameter]:
        """Those of the blocks from ``start`` on."""
        return [one for block in list(self.blocks)[start:] for one in block.parameters()]


def metamodelnet_normalised(data: FitData, steps: int = STEPS) -> Offered:
    """Few-split rows by the chain, trained on base classes from its last block to its first.

    With the paper's blocks and splits: block i learns from base classes with at least 2^(i+1)
    samples, and with it the blocks after it go on to learn, each step from rows of 2^j samples, j
    one of the blocks from i on. A step is one j, drawn evenly, in place of the sum over all. The
    paper itself was not at hand: this is held against two public summaries of it, which agree.
    They leave open how a classifier of k samples is trained; here it is the discriminant of
    `Shots`, and w* the head's own row.
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
    width, blocks = shots.targets.shape[1], int(entries.max()) + 1
    chain = NormalisedChain(width, blocks, data.seed)
    rng = np.random.default_rng(data.seed)
    for first in reversed(range(blocks)):
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


def head_places(data: FitData, start: int) -> IntArray:
    """Base classes with twice as many samples as block ``start`` enters with; all, if none has.

    Positions among the B, int64.
    """
    found = np.flatnonzero(data.counts[data.classes.base] >= 2 ** (start + 1))
    return found if len(found) else np.arange(len(data.classes.base))


def _train(
    chain: NormalisedChain,
    first: int,
    shots: Shots,
    task_weight: float,
    steps: int,
    rng: np.random.Generator,
) -> None:
    """Train the blocks from ``first`` on with rows of 2^first samples and more."""
    data = shots.data
    base, targets = data.classes.base, shots.standard(shots.targets)
    # Blocks that a step passes by have no gradient, which leaves them as they are.
    optimiser = torch.optim.Adam(chain.parameters_from(first), lr=1e-3)
    for _ in range(steps):
        data.budget.tick()
        start = int(rng.integers(first, len(chain.blocks)))
        known = head_places(data, start)
        # The statistics of a single row are none.
        chain.train(len(known) > 1)
        places = rng.choice(known, size=min(CLASSES_A_STEP, len(known)), replace=False)
        drawn = shots.standard(shots.drawn_rows(base[places], 2**start, rng))
        rows = chain(drawn, start)
        task_loss = shots.task_loss(shots.original(rows), places, rng)
        loss = objective(rows, targets[places], task_loss, task_weight)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
