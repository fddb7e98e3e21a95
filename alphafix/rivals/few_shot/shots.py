"""Classifiers from few samples of classes that have many: pairs to learn a mapping from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from alphafix.rivals.data import FitData
from alphafix.rivals.training import PER_CLASS
from alphafix.values.arrays import FloatArray64, IntArray
from alphafix.values.labels import ByClass

# Share of the average variance that is added to each axis. Features of training samples vary
# little along many axes, which the inverse would blow up.
SHRINKAGE = 1.0

# Base classes whose regressed rows one step looks at.
CLASSES_A_STEP = 64


@dataclass(frozen=True)
class Shots:
    """Few-shot rows and the many-shot rows that they should become.

    A few-shot row is that of linear discriminant analysis between the class and all classes:
    w = P (m - mu) and b = -w.(m + mu) / 2, with m the mean of the few samples, mu the mean of
    the class means and P the inverse of the shrunk pooled covariance (the papers fit SVMs;
    this has a closed form). It is scaled, and the mean base row added, to be in the units of
    the head. Rows and biases are one vector of D + 1.

    Attributes:
        data: Features, labels and head.
        precision: P, float64 of shape D x D.
        scale: The factor at which few-shot rows of the base classes fit the head's best.
        targets: The head's base rows with their biases, float32 of shape B x (D + 1).
        groups: Training samples by class.
    """

    data: FitData
    precision: FloatArray64
    scale: float
    targets: Tensor
    groups: ByClass

    @classmethod
    def of(cls, data: FitData) -> Shots:
        """Prepare the covariance, the targets and the scale."""
        head, base = data.head, data.classes.base
        centered = data.features - data.means[data.labels]
        covariance = centered.T @ centered / len(centered)
        ridge = SHRINKAGE * np.trace(covariance) / len(covariance)
        precision = np.linalg.inv(covariance + ridge * np.eye(len(covariance)))
        targets = np.c_[head.weight[base], head.bias_or_zeros[base]] * head.scale
        rows = (data.means[base] - data.means.mean(axis=0)) @ precision
        own = targets[:, :-1] - targets[:, :-1].mean(axis=0)
        scale = float((rows * own).sum() / (rows**2).sum())
        groups = ByClass.of(data.labels, len(data.classes))
        return cls(data, precision, scale, torch.from_numpy(targets.astype(np.float32)), groups)

    def standard(self, rows: Tensor) -> Tensor:
        """Rows in units in which the target rows have mean 0 and deviation 1 on every axis."""
        return (rows - self._middle) / self._spread

    def original(self, rows: Tensor) -> Tensor:
        """The inverse of `standard`."""
        return rows * self._spread + self._middle

    @cached_property
    def _middle(self) -> Tensor:
        return self.targets.mean(dim=0)

    @cached_property
    def _spread(self) -> Tensor:
        spread = self.targets.std(dim=0)
        # The biases of a head without any are all zero, and stay so.
        return torch.where(spread > 0, spread, torch.ones_like(spread))

    def few_rows(self) -> Tensor:
        """Few-shot rows of the few-split classes from all of their samples, F x (D + 1)."""
        return self._as_rows(self.data.means[self.data.classes.few])

    def drawn_rows(self, classes: IntArray, shots: int, rng: np.random.Generator) -> Tensor:
        """Rows of these classes from ``shots`` random samples each, R x (D + 1)."""
        drawn = self.data.features[draw_each(self.groups, classes, shots, rng)]
        return self._as_rows(drawn.mean(axis=1).astype(np.float64))

    def draw(self, label: int, count: int, rng: np.random.Generator) -> IntArray:
        """Random samples of one class, without repeats where it has enough."""
        return draw(self.groups, label, count, rng)

    @cached_property
    def _center(self) -> FloatArray64:
        return np.asarray(self.data.means.mean(axis=0))

    def _as_rows(self, means: FloatArray64) -> Tensor:
        center = self._center
        rows = (means - center) @ self.precision
        found = np.c_[rows, -0.5 * (rows * (means + center)).sum(axis=1)]
        return self._middle + torch.from_numpy((self.scale * found).astype(np.float32))

    def task_loss(self, rows: Tensor, places: IntArray, rng: np.random.Generator) -> Tensor:
        """Cross-entropy of samples of the regressed classes when these rows are used.

        Args:
            rows: Regressed rows, R x (D + 1), or those of several mappings, M x R x (D + 1).
            places: Which base classes they are of (positions among the B), int64 of shape R.
            rng: Draws the samples.

        Returns:
            A scalar, or the losses of the mappings, M.
        """
        base = self.data.classes.base
        index = draw_each(self.groups, base[places], PER_CLASS, rng).ravel()
        labels = torch.from_numpy(np.repeat(places, PER_CLASS))
        x = functional.pad(torch.from_numpy(self.data.features[index]), (0, 1), value=1.0)
        given = (x @ self.targets.T).expand(*rows.shape[:-2], -1, -1)
        logits = given.index_copy(-1, torch.from_numpy(places), x @ rows.transpose(-1, -2))
        every = labels.repeat(logits[..., 0].numel() // len(labels))
        losses = functional.cross_entropy(logits.flatten(0, -2), every, reduction="none")
        return losses.view(logits.shape[:-1]).mean(dim=-1)


def head_places(data: FitData, start: int) -> IntArray:
    """Base classes with at least 2^(start + 1) samples, twice those of a draw; all, if none has.

    Positions among the B, int64.
    """
    found = np.flatnonzero(data.counts[data.classes.base] >= 2 ** (start + 1))
    return found if len(found) else np.arange(len(data.classes.base))


def draw(groups: ByClass, label: int, count: int, rng: np.random.Generator) -> IntArray:
    """Random samples of one class, without repeats where it has enough."""
    mine = groups.samples(label)
    return np.asarray(rng.choice(mine, size=count, replace=len(mine) < count))


def draw_each(groups: ByClass, classes: IntArray, count: int, rng: np.random.Generator) -> IntArray:
    """The same for many classes at once, int64 of shape R x count.

    Where all have enough this is Floyd's algorithm as `numpy.random.Generator.choice` has it, for
    all classes together: the i-th number is at most n - count + i, and is that if it was drawn
    before. The draws are those of `draw` class after class, in another order within each (the
    numbers that would shuffle them are drawn, and not used).
    """
    sizes, place = groups.sizes[classes], np.arange(count)
    if (sizes < count).any():
        return np.stack([draw(groups, label, count, rng) for label in classes.tolist()])
    last = sizes[:, None] - count + place
    shuffling = np.broadcast_to(place[:0:-1], (len(classes), count - 1))
    drawn = rng.integers(np.concatenate([last, shuffling], axis=1), endpoint=True)[:, :count]
    for i in range(1, count):
        again = (drawn[:, :i] == drawn[:, i : i + 1]).any(axis=1)
        drawn[again, i] = last[again, i]
    found: IntArray = groups.order[groups.starts[classes][:, None] + drawn]
    return found
