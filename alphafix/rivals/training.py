"""Training of heads on stored features: sampler, optimiser and choice of learning rate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from alphafix.errors import InputError
from alphafix.rivals.data import FitData
from alphafix.values.arrays import BoolArray, FloatArray, IntArray
from alphafix.values.labels import ByClass

Loss = Callable[[Tensor, Tensor], Tensor]
"""n x D features and n labels -> mean loss, a scalar."""

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
    loss: Loss,
    data: FitData,
    training: HeadTraining,
    rate: float,
    *,
    after_epoch: Callable[[], None] | None = None,
) -> None:
    """Train ``parameters`` in place: SGD with momentum, cosine learning rate towards zero.

    Args:
        parameters: Leaf tensors that require gradients.
        loss: Mean loss of a batch.
        data: Training features and labels, and the seed.
        training: Epochs, sampler, batch size and decay.
        rate: Learning rate at the start.
        after_epoch: Called after each epoch (to project parameters, say).
    """
    rng = np.random.default_rng(data.seed)
    features, labels = torch.from_numpy(data.features), torch.from_numpy(data.labels)
    optimiser = torch.optim.SGD(
        parameters, lr=rate, momentum=training.momentum, weight_decay=training.decay
    )
    steps = training.steps(len(labels))
    turns = training.epochs * (1 if training.by_epoch else steps)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, turns)
    for _ in range(training.epochs):
        for index in islice(batches(data.labels, training, rng), steps):
            optimiser.zero_grad()
            loss(features[index], labels[index]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            if not training.by_epoch:
                schedule.step()
        if training.by_epoch:
            schedule.step()
        if after_epoch is not None:
            after_epoch()


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


def base_parameters(data: FitData) -> tuple[Tensor, Tensor]:
    """The head's rows and biases in units of logits, to be trained further."""
    head = data.head
    weight = torch.from_numpy(head.weight * np.float32(head.scale)).clone().requires_grad_()
    bias = torch.from_numpy(head.bias_or_zeros * np.float32(head.scale)).clone().requires_grad_()
    return weight, bias


def new_parameters(data: FitData) -> tuple[Tensor, Tensor]:
    """A new head with PyTorch's default initialisation from the seed."""
    generator = torch.Generator().manual_seed(data.seed)
    bound = data.head.width**-0.5  # nn.Linear.reset_parameters
    shape = (data.head.num_classes, data.head.width)
    weight = torch.empty(shape).uniform_(-bound, bound, generator=generator).requires_grad_()
    bias = torch.empty(shape[0]).uniform_(-bound, bound, generator=generator).requires_grad_()
    return weight, bias


HeadArrays = tuple[FloatArray, FloatArray]
"""Rows C x D and biases C, in units of logits."""


def best_rate(
    data: FitData, train: Callable[[float], HeadArrays], rates: Sequence[float] = RATES
) -> tuple[HeadArrays, float]:
    """Train with each learning rate; keep the head with the best mean class accuracy.

    The mean over classes of validation accuracy does not depend on how validation samples
    are distributed. Diverged heads (NaN) are never kept.

    Raises:
        InputError: If training diverges with every rate.
    """
    kept: tuple[float, HeadArrays, float] | None = None
    for rate in rates:
        rows, biases = train(rate)
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
    return weight.detach().numpy().copy(), bias.detach().numpy().copy()
