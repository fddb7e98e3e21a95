"""A training run: what it is made of, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from alphafix.alphanet.scores import Scores
from alphafix.values.arrays import IntArray
from alphafix.values.trials import EpochRecord


@dataclass(frozen=True)
class Hyper:
    """What all trials of a batch share (defaults: AlphaNet, section 4.1).

    Attributes:
        epochs: Epochs of training.
        first_epoch: First epoch (counted from 1) that may be chosen on validation.
        batch_size: Samples a step; the last step of a pass takes what is left.
        lr: Learning rate, times 0.1 after every ``decay_every`` epochs.
        decay_every: See ``lr``.
        weight_decay: AdamW's decoupled decay (PyTorch's default).
        hidden: Widths of the hidden layers.
        learn_bias: Whether the few-split biases are learned (the authors' code: they are not).
        include_self: Whether a class's own row enters the network too (the authors' code).
        least_steps: Steps of an epoch at the least: where one pass over its samples has fewer, an
            epoch is made of several passes, each drawn anew. The rate decays, and epochs may be
            chosen, at the same fractions of the training.
        max_steps: Stop a trial after this many steps (to try a size out), or None.
    """

    epochs: int = 25
    first_epoch: int = 5
    batch_size: int = 64
    lr: float = 1e-3
    decay_every: int = 10
    weight_decay: float = 1e-2
    hidden: tuple[int, ...] = (32, 32, 32)
    learn_bias: bool = True
    include_self: bool = False
    least_steps: int = 0
    max_steps: int | None = None

    def passes(self, samples: int) -> int:
        """Passes over ``samples`` samples that make an epoch."""
        return max(1, -(-self.least_steps // -(-samples // self.batch_size)))


@dataclass(frozen=True)
class Trial:
    """One training run.

    Attributes:
        rho: Base samples a few-split sample.
        k: Neighbours a class.
        seed: Decides the initial network and the samples.
        neighbors: The neighbours' class ids, int64 of shape F x K; with own rows, whose ids follow
            those of the classes, F x (K + 1).
        samples: Indices of the samples of each pass, int64 of shape (epochs * passes) x n.
        passes: Passes that make an epoch.
        drawn: Whether the neighbours are drawn from the seed, so that other trials have others.
    """

    rho: float
    k: int
    seed: int
    neighbors: IntArray
    samples: IntArray
    passes: int = 1
    drawn: bool = False

    @property
    def pool(self) -> int:
        """Rows that alpha combines."""
        return int(self.neighbors.shape[1])

    def steps_per_pass(self, hyper: Hyper) -> int:
        """Steps that one pass over the samples takes."""
        return -(-int(self.samples.shape[1]) // hyper.batch_size)

    def steps_per_epoch(self, hyper: Hyper) -> int:
        """Steps of an epoch."""
        return self.passes * self.steps_per_pass(hyper)

    def steps(self, hyper: Hyper) -> int:
        """Steps of the whole training."""
        steps = hyper.epochs * self.steps_per_epoch(hyper)
        return steps if hyper.max_steps is None else min(steps, hyper.max_steps)


@dataclass
class TrainedTrial:
    """What became of a trial: its best epoch's alphas and biases, and its history.

    Attributes:
        alphas: float32 of shape F x K.
        biases: float32 of shape F.
        epoch: The epoch they are from, counted from 1.
        correct: Whether each validation sample is predicted correctly, bool, or None.
        history: All epochs.
    """

    alphas: Tensor
    biases: Tensor
    epoch: int = 0
    correct: Tensor | None = None
    history: list[EpochRecord] = field(default_factory=list)


@dataclass(frozen=True)
class Epoch:
    """A trial after an epoch that may be chosen. Tensors are views: copy what is to be kept.

    Attributes:
        trial: Its position among the trials that were given.
        epoch: Counted from 1.
        alphas: float32 of shape F x K.
        biases: float32 of shape F.
        correct: Whether each validation sample is predicted correctly, bool, or None.
    """

    trial: int
    epoch: int
    alphas: Tensor
    biases: Tensor
    correct: Tensor | None


Watch = Callable[[Epoch], None]
"""Told every epoch that may be chosen."""


def unwatched(epoch: Epoch) -> None:
    """Nobody looks."""


@dataclass(frozen=True)
class SweepData:
    """What a batch trains and is validated on.

    Attributes:
        train: All samples that any trial of the batch sees.
        val: Validation samples kept by class, or None.
        weight: The head's rows, and own rows behind them, float32 of shape C x D (or C + F).
        biases: The head's few-split biases, float32 of shape F.
        scale: The head's logit scale.
        few: Few-split class ids, int64 of shape F.
        positions: Column of each of these in the scores, int64 (-1: not kept).
    """

    train: Scores
    val: Scores | None
    weight: Tensor
    biases: Tensor
    scale: float
    few: Tensor
    positions: Tensor
