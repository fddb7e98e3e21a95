"""Training of heads on stored features: sampler, optimiser and choice of learning rate."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from torch.optim.adam import adam

from alphafix.errors import InputError
from alphafix.rivals.data import FitData
from alphafix.values.arrays import BoolArray, FloatArray, IntArray
from alphafix.values.labels import ByClass

Gradients = Callable[[Tensor, Tensor], Sequence[Tensor]]
"""n x D features and n labels -> gradient of the mean loss by each of the parameters."""

# Kang et al. 2020 use 0.2 for features of ResNet's scale; others may need less or more.
RATES = (0.02, 0.2, 2.0)

# Samples of a class in a row in the class-balanced sampler (Kang et al.: 4).
PER_CLASS = 4


@dataclass(frozen=True)
class HeadTraining:
    """How a head is trained (defaults: cRT, Kang et al. 2020, appendix B).

    Attributes:
        epochs: Passes over as many samples as there are.
        balanced: Draw classes evenly, `PER_CLASS` samples each, or every sample once.
        batch: Samples a step.
        decay: Weight decay.
        momentum: SGD's momentum.
        by_epoch: As the code of Kang et al. does it: the cosine learning rate stays the same within
            an epoch, and an epoch has whole batches only, samples that are left over (fewer than
            a batch) not being drawn. Else the rate falls with each step.
    """

    epochs: int = 10
    balanced: bool = False
    batch: int = 512
    decay: float = 5e-4
    momentum: float = 0.9
    by_epoch: bool = False

    def steps(self, samples: int) -> int:
        """Steps of an epoch."""
        whole = max(1, samples // self.batch)
        return whole if self.by_epoch else -(-samples // self.batch)


def sgd(
    parameters: Sequence[Tensor],
    gradients: Gradients,
    data: FitData,
    training: HeadTraining,
    rate: float | Sequence[float],
    *,
    after_epoch: Callable[[], None] | None = None,
) -> None:
    """Train ``parameters`` in place: SGD with momentum, cosine learning rate towards zero.

    Args:
        parameters: What is trained.
        gradients: Those of a batch.
        data: Training features and labels, and the seed.
        training: Epochs, sampler, batch size and decay.
        rate: Learning rate at the start; several for heads side by side, which then share the
            first axis of each parameter evenly, one head after the other. Heads that see the same
            batches share one product with the features and one update.
        after_epoch: Called after each epoch (to project parameters, say).

    Raises:
        OutOfTime: If the budget of ``data`` is used up.
    """
    with denormals_as_zero():
        _sgd(parameters, gradients, data, training, rate, after_epoch)


def _sgd(
    parameters: Sequence[Tensor],
    gradients: Gradients,
    data: FitData,
    training: HeadTraining,
    rate: float | Sequence[float],
    after_epoch: Callable[[], None] | None,
) -> None:
    rng = np.random.default_rng(data.seed)
    features, labels = torch.from_numpy(data.features), torch.from_numpy(data.labels)
    rates = [_along(parameter, rate) for parameter in parameters]
    velocities = [torch.zeros_like(parameter) for parameter in parameters]
    steps = training.steps(len(labels))
    turns, turn = training.epochs * (1 if training.by_epoch else steps), 0
    for _ in range(training.epochs):
        for index in islice(batches(data.labels, training, rng), steps):
            data.budget.tick()
            fraction = (1 + math.cos(math.pi * turn / turns)) / 2
            found = gradients(features.index_select(0, index), labels.index_select(0, index))
            for parameter, gradient, velocity, own in zip(
                parameters, found, velocities, rates, strict=True
            ):
                velocity.mul_(training.momentum).add_(gradient)
                velocity.add_(parameter, alpha=training.decay)
                parameter.addcmul_(velocity, own, value=-fraction)
            turn += not training.by_epoch
        turn += training.by_epoch
        if after_epoch is not None:
            after_epoch()


@contextlib.contextmanager
def denormals_as_zero() -> Iterator[None]:
    """Let this thread's processor take float32 numbers below 1e-38 for zero.

    Shares of classes that are out of the question are so small, and the processor takes a hundred
    times as long for them. A head that diverges with too high a rate has hardly any others.
    """
    as_before = bool(torch.full((1,), 1e-39).mul(0.5) == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(as_before)


def _along(parameter: Tensor, rate: float | Sequence[float]) -> Tensor:
    """The rate of each entry of the first axis of a parameter, or the one of all."""
    if isinstance(rate, (int, float)):
        return torch.tensor(float(rate))
    found = torch.tensor(rate).repeat_interleave(len(parameter) // len(rate))
    return found.view(-1, *[1] * (parameter.ndim - 1))


class Adam:
    """Adam with PyTorch's defaults (its own class first loads its compiler, more than a second).

    Args:
        parameters: What is trained.
        rate: Learning rate.
    """

    def __init__(self, parameters: Iterable[Tensor], rate: float) -> None:
        self._parameters, self._rate = list(parameters), rate
        self._first, self._second = (
            [torch.zeros_like(parameter) for parameter in self._parameters] for _ in range(2)
        )
        self._counts = [torch.zeros(()) for _ in self._parameters]

    def step(self, loss: Tensor) -> None:
        """Make one step down the gradient of a loss."""
        gradients = torch.autograd.grad(loss, self._parameters)
        adam(
            [parameter.detach() for parameter in self._parameters],
            [gradient.contiguous() for gradient in gradients],
            self._first,
            self._second,
            [],
            self._counts,
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self._rate,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )


def batches(labels: IntArray, training: HeadTraining, rng: np.random.Generator) -> Iterator[Tensor]:
    """Sample indices of one epoch in batches."""
    draw = balanced_order(labels, rng) if training.balanced else rng.permutation(len(labels))
    for start in range(0, len(draw), training.batch):
        yield torch.from_numpy(draw[start : start + training.batch])


def balanced_order(labels: IntArray, rng: np.random.Generator) -> IntArray:
    """As many sample indices as there are samples, all classes equally often.

    Classes come in a new random order each time round, `PER_CLASS` samples at once.
    """
    groups = ByClass.of(labels)
    present = np.flatnonzero(groups.sizes)
    starts, sizes = groups.starts[present], groups.sizes[present]
    turns = -(-len(labels) // (PER_CLASS * len(starts)))
    drawn = np.concatenate([rng.permutation(len(starts)) for _ in range(turns)])
    drawn = np.repeat(drawn, PER_CLASS)[: len(labels)]
    within = (rng.random(len(drawn)) * sizes[drawn]).astype(np.int64)
    return np.asarray(groups.order[starts[drawn] + within])


def base_parameters(data: FitData, heads: int = 1) -> tuple[Tensor, Tensor]:
    """The head's rows and biases in units of logits, to be trained further.

    Args:
        data: The head.
        heads: R, how many of it one after the other: (R C) x D and R C.
    """
    head = data.head
    weight = torch.from_numpy(head.weight * np.float32(head.scale)).repeat(heads, 1)
    bias = torch.from_numpy(head.bias_or_zeros * np.float32(head.scale)).repeat(heads)
    return weight, bias


def new_parameters(data: FitData, heads: int = 1) -> tuple[Tensor, Tensor]:
    """A new head with PyTorch's default initialisation from the seed (else as the base head's)."""
    generator = torch.Generator().manual_seed(data.seed)
    bound = data.head.width**-0.5  # nn.Linear.reset_parameters
    shape = (data.head.num_classes, data.head.width)
    weight = torch.empty(shape).uniform_(-bound, bound, generator=generator).repeat(heads, 1)
    bias = torch.empty(shape[0]).uniform_(-bound, bound, generator=generator).repeat(heads)
    return weight, bias


HeadArrays = tuple[FloatArray, FloatArray]
"""Rows C x D and biases C, in units of logits."""


def best_rate(
    data: FitData, train: Callable[[float], HeadArrays], rates: Sequence[float] = RATES
) -> tuple[HeadArrays, float]:
    """Train with each learning rate; keep the best head (see `best_head`)."""
    return best_head(data, [train(rate) for rate in rates], rates)


def best_head(
    data: FitData, heads: Sequence[HeadArrays], rates: Sequence[float] = RATES
) -> tuple[HeadArrays, float]:
    """The head with the best mean class accuracy, of one trained with each learning rate.

    The mean over classes of validation accuracy does not depend on how validation samples
    are distributed. Diverged heads (NaN) are never kept.

    Raises:
        InputError: If training has diverged with every rate.
    """
    kept: tuple[float, HeadArrays, float] | None = None
    for (rows, biases), rate in zip(heads, rates, strict=True):
        if not (np.isfinite(rows).all() and np.isfinite(biases).all()):
            continue
        value = _mean_class_accuracy(data, rows, biases)
        if kept is None or value > kept[0]:
            kept = (value, (rows, biases), rate)
    if kept is None:
        raise InputError(
            "training a head diverged with every learning rate",
            got=f"NaN or inf with {', '.join(map(str, rates))}",
            expected="features of a scale that SGD can work with",
            todo="normalise the features, or leave the trained heads out",
        )
    return kept[1], kept[2]


def _mean_class_accuracy(data: FitData, rows: FloatArray, biases: FloatArray) -> float:
    predicted = (data.val_features @ rows.T + biases).argmax(axis=1)
    right: BoolArray = predicted == data.val_labels
    samples = np.bincount(data.val_labels)
    hits = np.bincount(data.val_labels, weights=right)
    return float((hits[samples > 0] / samples[samples > 0]).mean())


def as_arrays(weight: Tensor, bias: Tensor) -> HeadArrays:
    """Trained tensors as arrays."""
    return weight.numpy().copy(), bias.numpy().copy()


def apart(heads: HeadArrays, count: int) -> list[HeadArrays]:
    """Heads side by side, (R C) x D and R C, as the arrays of each."""
    rows, biases = heads
    return list(zip(np.split(rows, count), np.split(biases, count), strict=True))
