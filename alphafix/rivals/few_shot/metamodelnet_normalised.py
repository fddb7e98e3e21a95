"""MetaModelNet as the paper has it: residual blocks that begin with batch normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import leaky_relu

from alphafix.rivals.data import FitData, Offered, linear
from alphafix.rivals.few_shot.classifiers import TrainedShots
from alphafix.rivals.few_shot.metamodelnet import STEPS, TASK_WEIGHTS, entry
from alphafix.rivals.few_shot.model_regression import objective
from alphafix.rivals.few_shot.shots import CLASSES_A_STEP, Shots, head_places
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


class Rows(Protocol):
    """Where rows of few samples are from: `Discriminants` or `TrainedShots`."""

    def few_rows(self) -> Tensor:
        """Rows of the few-split classes from all of their samples, F x (D + 1)."""

    def drawn_rows(self, places: IntArray, start: int, rng: np.random.Generator) -> Tensor:
        """Rows of base classes, positions among the B, from 2^start samples each, R x (D + 1)."""


@dataclass(frozen=True)
class Discriminants:
    """The discriminants of `Shots`."""

    shots: Shots

    def few_rows(self) -> Tensor:
        """Rows of the few-split classes from all of their samples, F x (D + 1)."""
        return self.shots.few_rows()

    def drawn_rows(self, places: IntArray, start: int, rng: np.random.Generator) -> Tensor:
        """Rows of base classes, positions among the B, from 2^start samples each, R x (D + 1)."""
        return self.shots.drawn_rows(self.shots.data.classes.base[places], 2**start, rng)


def metamodelnet_normalised(
    data: FitData, steps: int = STEPS, *, discriminants: bool = False
) -> Offered:
    """Few-split rows by the chain, trained on base classes from its last block to its first.

    For k = 2^i shots ||F_i(w_k) - w*||^2 + lambda task loss over base classes with at least 2k
    samples (Wang, Ramanan and Hebert 2017, "Learning to model the tail"), w_k a row of a classifier
    that was trained on k samples a class (`TrainedShots`). With block i the blocks after it go on
    to learn, each step from rows of 2^j samples, j one of the blocks from i on, drawn evenly in
    place of the sum over all. lambda is chosen on validation.

    What is not the paper's: w* is the head's own row, as few-split rows come beside those of the
    head; losses are means (`objective`). The paper itself was not at hand: this is held against two
    public summaries of it, which agree, and which leave open with what optimiser and for how long
    a classifier of k samples is trained.

    Args:
        data: Features, labels and head.
        steps: Steps for each block.
        discriminants: w_k is the discriminant of `Shots` instead, this project's choice: within the
            limits on validation it gained more on one of two data sets, and on the other neither
            gained anything (examples/evidence/few_shot.py).
    """
    name = "metamodelnet-lda" if discriminants else "metamodelnet"
    found = data.once((name, steps), partial(_rows, data, steps, discriminants=discriminants))
    return Offered.of(
        data,
        [
            linear(
                name,
                data,
                values[:, :-1],
                values[:, -1],
                classes=data.classes.few,
                settings={"task_weight": weight},
            )
            for weight, values in zip(TASK_WEIGHTS, found, strict=True)
        ],
    )


def _rows(data: FitData, steps: int, *, discriminants: bool) -> list[FloatArray]:
    """Few-split rows with their biases, F x (D + 1), with each of `TASK_WEIGHTS`."""
    shots = Shots.of(data)
    entries = np.array([entry(int(count)) for count in data.counts[data.classes.few]])
    rows = Discriminants(shots) if discriminants else TrainedShots.of(shots, entries)
    return [_trained(shots, rows, entries, weight, steps) for weight in TASK_WEIGHTS]


def _trained(
    shots: Shots, given: Rows, entries: IntArray, task_weight: float, steps: int
) -> FloatArray:
    blocks, seed = int(entries.max()) + 1, shots.data.seed
    chain, rng = NormalisedChain(shots.targets.shape[1], blocks, seed), np.random.default_rng(seed)
    for first in reversed(range(blocks)):
        _train(chain, first, shots, given, task_weight, steps, rng)
    rows = shots.standard(given.few_rows())
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
    given: Rows,
    task_weight: float,
    steps: int,
    rng: np.random.Generator,
) -> None:
    """Train the blocks from ``first`` on with rows of 2^first samples and more."""
    data, targets = shots.data, shots.standard(shots.targets)
    # Blocks that a step passes by have no gradient, which leaves them as they are.
    optimiser = torch.optim.Adam(chain.parameters_from(first), lr=1e-3, fused=True)
    for _ in range(steps):
        data.budget.tick()
        start = int(rng.integers(first, len(chain.blocks)))
        known = head_places(data, start)
        # The statistics of a single row are none.
        chain.train(len(known) > 1)
        places = rng.choice(known, size=min(CLASSES_A_STEP, len(known)), replace=False)
        rows = chain(shots.standard(given.drawn_rows(places, start, rng)), start)
        task_loss = shots.task_loss(shots.original(rows), places, rng)
        loss = objective(rows, targets[places], task_loss, task_weight)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
