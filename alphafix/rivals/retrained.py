"""Heads retrained on stored features: one table of what is trained with which loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from alphafix.rivals import slopes
from alphafix.rivals.data import FitData, Fitted, linear
from alphafix.rivals.losses import SCALE, class_balanced_weights, inverse_weights, margins
from alphafix.rivals.slopes import Slope
from alphafix.rivals.training import (
    RATES,
    Gradients,
    HeadArrays,
    HeadTraining,
    apart,
    as_arrays,
    base_parameters,
    best_head,
    new_parameters,
    sgd,
)

# As in PyTorch's normalize.
LEAST_LENGTH = 1e-12


class TrainableHead(Protocol):
    """R heads side by side while they are trained.

    Attributes:
        parameters: What is trained; the heads follow one another along the first axis of each.
    """

    parameters: list[Tensor]

    def logits(self, x: Tensor) -> Tensor:
        """What the loss takes: features, n x D -> n x R x C."""

    def gradients(self, x: Tensor, slope: Tensor) -> Sequence[Tensor]:
        """That of each parameter, from the one by `logits` of the same features, n x R x C."""

    def arrays(self) -> HeadArrays:
        """The linear heads that they are now, (R C) x D and R C."""


class LinearHead:
    """W x + b.

    Args:
        weight: W, (R C) x D.
        bias: b, R C.
        heads: R.
        biased: Whether b is trained; else it stays as it is.
    """

    def __init__(self, weight: Tensor, bias: Tensor, heads: int, *, biased: bool = True) -> None:
        self._weight, self._bias, self._heads = weight, bias, heads
        self.parameters = [weight, bias] if biased else [weight]

    @classmethod
    def of_base(cls, data: FitData, heads: int = 1) -> LinearHead:
        """From the base head on."""
        return cls(*base_parameters(data, heads), heads)

    @classmethod
    def new(cls, data: FitData, heads: int = 1) -> LinearHead:
        """From new parameters on."""
        return cls(*new_parameters(data, heads), heads)

    @classmethod
    def new_like_given(cls, data: FitData, heads: int = 1) -> LinearHead:
        """From new parameters on, with biases where the given head has them."""
        weight, bias = new_parameters(data, heads)
        if data.head.bias is not None:
            return cls(weight, bias, heads)
        return cls(weight, torch.zeros_like(bias), heads, biased=False)

    def logits(self, x: Tensor) -> Tensor:
        """W x + b, n x R x C."""
        found = torch.addmm(self._bias, x, self._weight.T)
        return found.view(len(x), self._heads, -1)

    def gradients(self, x: Tensor, slope: Tensor) -> Sequence[Tensor]:
        """Those of W, and of b if it is trained."""
        slope = slope.flatten(1)
        return [slope.T @ x, slope.sum(dim=0)][: len(self.parameters)]

    def arrays(self) -> HeadArrays:
        """W and b."""
        return as_arrays(self._weight, self._bias)


class ScaledHead:
    """s_c (w_c x + b_c) of the base head, only s trained (Kang et al. 2020).

    Args:
        data: The base head.
        heads: R.
    """

    def __init__(self, data: FitData, heads: int = 1) -> None:
        self._weight, self._bias = base_parameters(data)
        self._scales = torch.ones(heads * len(self._weight))
        self._heads, self.parameters = heads, [self._scales]
        self._plain = torch.empty(0)

    def logits(self, x: Tensor) -> Tensor:
        """The factors times the base head's logits, which are the same for all heads."""
        self._plain = torch.addmm(self._bias, x, self._weight.T)[:, None]
        return self._plain * self._scales.view(self._heads, -1)

    def gradients(self, x: Tensor, slope: Tensor) -> Sequence[Tensor]:
        """That of s."""
        return [slope.mul_(self._plain).sum(dim=0).flatten()]

    def arrays(self) -> HeadArrays:
        """The scaled rows and biases."""
        scales, heads = self._scales, self._heads
        return as_arrays(
            scales[:, None] * self._weight.repeat(heads, 1), scales * self._bias.repeat(heads)
        )


class CosineHead:
    """Cosines of features and rows, from the base head's directions on.

    The length of a feature is common to all classes, so that the normalised rows rank as the
    trained classifier does: a linear head without bias.

    Args:
        data: The base head.
        heads: R.
    """

    def __init__(self, data: FitData, heads: int = 1) -> None:
        self._weight, _ = base_parameters(data, heads)
        self._heads, self.parameters = heads, [self._weight]

    def logits(self, x: Tensor) -> Tensor:
        """Cosines."""
        found = functional.normalize(x) @ functional.normalize(self._weight).T
        return found.view(len(x), self._heads, -1)

    def gradients(self, x: Tensor, slope: Tensor) -> Sequence[Tensor]:
        """That of the rows: what turns them, over their length."""
        pulls = slope.flatten(1).T @ functional.normalize(x)
        lengths = self._weight.norm(dim=1, keepdim=True).clamp_min(LEAST_LENGTH)
        units = self._weight / lengths
        return [(pulls - units * (units * pulls).sum(dim=1, keepdim=True)) / lengths]

    def arrays(self) -> HeadArrays:
        """Rows of the length that the loss gives cosines, and no biases."""
        rows = SCALE * functional.normalize(self._weight)
        return as_arrays(rows, torch.zeros(len(rows)))


@dataclass(frozen=True)
class Retraining:
    """What is trained, with which loss, and how.

    Attributes:
        slope: Given the training counts of the classes, float32 of shape C: the gradient of the
            loss by logits.
        start: Heads at the start, as many as it is told.
        training: Epochs, sampler, batch size and decay.
    """

    slope: Callable[[Tensor], Slope]
    start: Callable[[FitData, int], TrainableHead] = LinearHead.of_base
    training: HeadTraining = field(default_factory=HeadTraining)


def _plain(counts: Tensor) -> Slope:
    return slopes.cross_entropy


RETRAINED: Mapping[str, Retraining] = {
    # Kang et al.'s config/ImageNet_LT/cls_crt.yaml and cls_lws.yaml, and run_networks.py.
    "crt": Retraining(_plain, LinearHead.new, HeadTraining(balanced=True, by_epoch=True)),
    "lws": Retraining(_plain, ScaledHead, HeadTraining(epochs=5, balanced=True, by_epoch=True)),
    # The prior is left out when the head is used (Ren et al. 2020, section 3).
    "balanced-softmax": Retraining(lambda counts: partial(slopes.balanced_softmax, counts=counts)),
    # Wang, Ramanan and Hebert 2017: each class weighed by its inverse frequency.
    "cost-sensitive": Retraining(
        lambda counts: partial(slopes.weighted_cross_entropy, weights=inverse_weights(counts))
    ),
    "focal": Retraining(lambda counts: slopes.focal),
    "ldam": Retraining(lambda counts: partial(slopes.ldam, delta=margins(counts)), CosineHead),
    # 0.1 is the authors' weight of the regulariser for CIFAR-100-LT.
    "lade": Retraining(lambda counts: partial(slopes.lade, counts=counts, weight=0.1)),
}
"""By the name of the method; the papers stand in `alphafix.rivals.RIVALS`."""


def retrain(data: FitData, *, name: str, training: HeadTraining | None = None) -> Fitted:
    """Train a head as `RETRAINED` says, with the learning rate that is best on validation.

    Args:
        data: What to fit on.
        name: The method.
        training: Another way of training it.
    """
    how = RETRAINED[name]
    if training is not None:
        how = replace(how, training=training)
    heads = data.once((name, how.training), partial(_train, data, how, RATES))
    (rows, biases), rate = best_head(data, heads)
    return linear(name, data, rows, biases, settings={"lr": rate})


def train_new(data: FitData, balanced: bool) -> list[HeadArrays]:
    """New heads by cross-entropy, classes as they come or drawn evenly: one for each of `RATES`.

    Like the given one they have biases, or none.
    """
    how = Retraining(_plain, LinearHead.new_like_given, HeadTraining(balanced=balanced))
    return _train(data, how, RATES)


def _train(data: FitData, how: Retraining, rates: Sequence[float]) -> list[HeadArrays]:
    """One head with each learning rate, all of them side by side."""
    head = how.start(data, len(rates))
    slope = how.slope(torch.from_numpy(data.counts).float())
    sgd(head.parameters, descent(head, slope), data, how.training, rates)
    return apart(head.arrays(), len(rates))


def descent(head: TrainableHead, slope: Slope) -> Gradients:
    """Gradients of the parameters of heads side by side, from the one by their logits."""
    return lambda x, y: head.gradients(x, slope(head.logits(x), y))


# Weight balancing: where the ball's radius lies between the shortest and the longest of the
# base rows (the authors: 0.1); validation chooses it, and the learning rate (theirs: 0.01).
THRESHOLDS = (0.1, 0.5, 1.0)
SMALL_RATES = (0.001, 0.01, 0.1)


def weight_balancing(data: FitData) -> Fitted:
    """Train the base head further: class-balanced, decay 0.1, rows in a ball after each epoch.

    Alshammari et al. 2022, section 4 (stage 2; its stage 1 changes the backbone).
    """
    norms = np.linalg.norm(data.head.weight * data.head.scale, axis=1)
    radii = [float(norms.min() + threshold * np.ptp(norms)) for threshold in THRESHOLDS]
    arrays = data.once(("weight-balancing",), partial(_train_in_balls, data, radii))
    found = []
    for place, radius in enumerate(radii):
        mine = arrays[place * len(SMALL_RATES) : (place + 1) * len(SMALL_RATES)]
        (rows, biases), rate = best_head(data, mine, SMALL_RATES)
        settings = {"lr": rate, "radius": radius}
        found.append(linear("weight-balancing", data, rows, biases, settings=settings))
    return max(found, key=lambda one: one.val["overall"] or 0.0)


def _train_in_balls(data: FitData, radii: Sequence[float]) -> list[HeadArrays]:
    """Heads of all radii with all of `SMALL_RATES`, the rates of one radius after another's."""
    weights = class_balanced_weights(torch.from_numpy(data.counts))
    rates, heads = SMALL_RATES * len(radii), len(SMALL_RATES) * len(radii)
    weight, bias = base_parameters(data, heads)
    balls = torch.tensor(radii).repeat_interleave(len(weight) // len(radii))[:, None]
    head = LinearHead(weight, bias, heads)
    sgd(
        head.parameters,
        descent(head, partial(slopes.class_balanced, weights=weights)),
        data,
        HeadTraining(decay=0.1, batch=64),
        rates,
        after_epoch=lambda: project(weight, balls),
    )
    return apart(head.arrays(), heads)


def project(weight: Tensor, radius: float | Tensor) -> None:
    """Scale rows longer than ``radius`` back to it, in place (Alshammari et al. 2022, MaxNorm).

    Args:
        weight: Rows, R x D.
        radius: That of all rows, or one a row, R x 1.
    """
    norms = weight.norm(dim=1, keepdim=True)
    weight *= (radius / norms.clamp_min(radius)).clamp_max(1)
