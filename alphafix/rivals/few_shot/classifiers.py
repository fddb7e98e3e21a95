"""Classifiers that are trained on k samples a class: what MetaModelNet's blocks begin with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from alphafix.rivals.data import FitData
from alphafix.rivals.few_shot.shots import Shots, draw_each, head_places
from alphafix.values.arrays import IntArray

# Decay of the base head in training (OLTR's Table 8, Kang et al. 2020).
DECAY = 5e-4

STEPS = 100

# Classifiers of each k, on other samples each.
DRAWS = 5


def softmax_rows(
    features: Tensor, labels: Tensor, classes: int, *, bias: bool = True, steps: int = STEPS
) -> Tensor:
    """Rows and biases of a linear classifier of R classes, float32 of shape R x (D + 1).

    They minimise the cross-entropy's mean + decay / 2 |(w, b)|^2, from zero by that many steps of
    Nesterov's accelerated gradient over all samples. The rate is 1 / L with L = (mean of
    |(x, 1)|^2) / 2 + decay, a bound of the curvature, so that it fits any units of the features.

    Args:
        features: n x D.
        labels: Positions among the R classes, int64 of shape n.
        classes: R.
        bias: Train biases, too; else they are 0.
        steps: Gradient steps.
    """
    x = torch.nn.functional.pad(features, (0, 1), value=float(bias))
    rate = 1 / (0.5 * float(x.square().sum(dim=1).mean()) + DECAY)
    rows = torch.zeros(classes, x.shape[1])
    ahead, places = rows, torch.arange(len(x))
    for step in range(steps):
        wrong = (x @ ahead.T).softmax(dim=1)
        wrong[places, labels] -= 1
        moved = ahead - rate * (wrong.T @ x / len(x) + DECAY * ahead)
        ahead, rows = moved + (step / (step + 3)) * (moved - rows), moved
    return rows


@dataclass(frozen=True)
class TrainedShots:
    """k-shot rows of base classes and rows of the few-split classes, by training.

    The classifier of 2^i shots is one of all base classes with twice as many samples at least
    (`head_places`). Those of the few-split classes that enter block i are learned beside them, from
    all of their samples and 2^i of each of these base classes. A softmax does not notice what is
    added to all rows: it is what gives these base classes the mean of the head's own rows.

    Attributes:
        few: Rows and biases of the few-split classes, float32 of shape F x (D + 1).
        drawn: For block i those of its base classes, each position among the B with `DRAWS`
            classifiers: float32 of shape `DRAWS` x B x (D + 1), zeros for other base classes.
    """

    few: Tensor
    drawn: tuple[Tensor, ...]

    @classmethod
    def of(cls, shots: Shots, entries: IntArray) -> TrainedShots:
        """Train all classifiers.

        Args:
            shots: The samples, and the head's rows.
            entries: The block at which each few-split class enters, int64 of shape F.
        """
        rng = np.random.default_rng(shots.data.seed)
        few = torch.zeros(len(entries), shots.targets.shape[1])
        blocks = []
        for start in range(int(entries.max()) + 1):
            blocks.append(torch.zeros(DRAWS, *shots.targets.shape))
            known = head_places(shots.data, start)
            for rows in blocks[-1]:
                rows[known] = _trained(shots, known, start, (), rng)
            mine = np.flatnonzero(entries == start)
            if len(mine):
                classes = shots.data.classes.few[mine].tolist()
                few[mine] = _trained(shots, known, start, classes, rng)[len(known) :]
        return cls(few, tuple(blocks))

    def few_rows(self) -> Tensor:
        """Rows of the few-split classes from all of their samples, F x (D + 1)."""
        return self.few

    def drawn_rows(self, places: IntArray, start: int, rng: np.random.Generator) -> Tensor:
        """Rows of these base classes by a classifier of 2^start shots each, R x (D + 1)."""
        return self.drawn[start][rng.integers(DRAWS, size=len(places)), places]


def _trained(
    shots: Shots, known: IntArray, start: int, more: Iterable[int], rng: np.random.Generator
) -> Tensor:
    """Rows of base classes from 2^start samples each, and of more classes from all they have."""
    data: FitData = shots.data
    data.budget.tick()
    drawn = draw_each(shots.groups, data.classes.base[known], 2**start, rng)
    samples = [*drawn, *(shots.groups.samples(label) for label in more)]
    labels = np.repeat(np.arange(len(samples)), [len(mine) for mine in samples])
    rows = softmax_rows(
        torch.from_numpy(data.features[np.concatenate(samples)]),
        torch.from_numpy(labels),
        len(samples),
        bias=data.head.bias is not None,
    )
    return rows - rows[: len(known)].mean(dim=0) + shots.targets[known].mean(dim=0)
