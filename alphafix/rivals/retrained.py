"""Heads retrained on stored features: one table of what is trained with which loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from alphafix.rivals.data import FitData, Fitted, linear
from alphafix.rivals.losses import (
    SCALE,
    balanced_softmax,
    class_balanced_loss,
    class_balanced_weights,
    focal_loss,
    inverse_weights,
    lader,
    ldam_loss,
    margins,
)
from alphafix.rivals.training import (
    HeadArrays,
    HeadTraining,
    Loss,
    as_arrays,
    base_parameters,
    best_rate,
    new_parameters,
    sgd,
)


@dataclass(frozen=True)
class TrainableHead:
    """A head while it is trained.

    Attributes:
        parameters: What is trained.
        logits: Features, n x D -> what the loss takes, n x C.
        arrays: The linear head that it is now.
    """

    parameters: Sequence[Tensor]
    logits: Callable[[Tensor], Tensor]
    arrays: Callable[[], HeadArrays]


def base_head(data: FitData) -> TrainableHead:
    """W x + b, from the base head on."""
    return _linear_head(*base_parameters(data))


def new_head(data: FitData) -> TrainableHead:
    """W x + b, from new parameters on."""
    return _linear_head(*new_parameters(data))


def _linear_head(weight: Tensor, bias: Tensor) -> TrainableHead:
    return TrainableHead(
        [weight, bias],
        lambda x: functional.linear(x, weight, bias),
        lambda: as_arrays(weight, bias),
    )


def scaled_head(data: FitData) -> TrainableHead:
    """s_c (w_c x + b_c) of the base head, only s trained (Kang et al. 2020, Eq. 3)."""
    weight, bias = (parameter.detach() for parameter in base_parameters(data))
    scales = torch.ones(len(weight), requires_grad=True)
    return TrainableHead(
        [scales],
        lambda x: scales * functional.linear(x, weight, bias),
        lambda: as_arrays(scales[:, None] * weight, scales * bias),
    )


def cosine_head(data: FitData) -> TrainableHead:
    """Cosines of features and rows, from the base head's directions on.

    The length of a feature is common to all classes, so that the normalised rows rank as the
    trained classifier does: a linear head without bias.
    """
    weight, bias = base_parameters(data)
    return TrainableHead(
        [weight],
        lambda x: functional.linear(functional.normalize(x), functional.normalize(weight)),
        lambda: as_arrays(SCALE * functional.normalize(weight), torch.zeros_like(bias)),
    )


@dataclass(frozen=True)
class Retraining:
    """What is trained, with which loss, and how.

    Attributes:
        loss: Given the training counts of the classes, float32 of shape C: the loss of logits.
        start: The head at the start.
        training: Epochs, sampler, batch size and decay.
    """

    loss: Callable[[Tensor], Loss]
    start: Callable[[FitData], TrainableHead] = base_head
    training: HeadTraining = field(default_factory=HeadTraining)


def _cross_entropy(counts: Tensor) -> Loss:
    return functional.cross_entropy


def _lade(counts: Tensor) -> Loss:
    # 0.1 is the authors' weight of the regulariser for CIFAR-100-LT.
    return lambda logits, labels: (
        balanced_softmax(logits, labels, counts) + 0.1 * lader(logits, labels, counts)
    )


RETRAINED: Mapping[str, Retraining] = {
    # Kang et al.'s config/ImageNet_LT/cls_crt.yaml and cls_lws.yaml, and run_networks.py.
    "crt": Retraining(_cross_entropy, new_head, HeadTraining(balanced=True, by_epoch=True)),
    "lws": Retraining(
        _cross_entropy, scaled_head, HeadTraining(epochs=5, balanced=True, by_epoch=True)
    ),
    # The prior is left out when the head is used (Ren et al. 2020, section 3).
    "balanced-softmax": Retraining(lambda counts: partial(balanced_softmax, counts=counts)),
    # Wang, Ramanan and Hebert 2017, section 4: each class weighed by its inverse frequency.
    "cost-sensitive": Retraining(
        lambda counts: partial(functional.cross_entropy, weight=inverse_weights(counts))
    ),
    "focal": Retraining(lambda counts: focal_loss),
    "ldam": Retraining(lambda counts: partial(ldam_loss, delta=margins(counts)), cosine_head),
    "lade": Retraining(_lade),
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
    (rows, biases), rate = best_rate(data, partial(_train, data, how))
    return linear(name, data, rows, biases, settings={"lr": rate})


def train_new(data: FitData, balanced: bool, rate: float) -> HeadArrays:
    """A new head by cross-entropy, classes as they come or drawn evenly, without a choice.

    Like the given one it has biases, or none.
    """
    start = new_head if data.head.bias is not None else _new_head_without_biases
    return _train(data, Retraining(_cross_entropy, start, HeadTraining(balanced=balanced)), rate)


def _new_head_without_biases(data: FitData) -> TrainableHead:
    weight, _ = new_parameters(data)
    return TrainableHead(
        [weight],
        lambda x: functional.linear(x, weight),
        lambda: as_arrays(weight, torch.zeros(len(weight))),
    )


def _train(data: FitData, how: Retraining, rate: float) -> HeadArrays:
    head, loss = how.start(data), how.loss(torch.from_numpy(data.counts).float())
    sgd(head.parameters, lambda x, y: loss(head.logits(x), y), data, how.training, rate)
    return head.arrays()


# Weight balancing: where the ball's radius lies between the shortest and the longest of the
# base rows (the authors: 0.1); validation chooses it, and the learning rate (theirs: 0.01).
THRESHOLDS = (0.1, 0.5, 1.0)
RATES = (0.001, 0.01, 0.1)


def weight_balancing(data: FitData) -> Fitted:
    """Train the base head further: class-balanced, decay 0.1, rows in a ball after each epoch.

    Alshammari et al. 2022, section 4 (stage 2; its stage 1 changes the backbone).
    """
    weights = class_balanced_weights(torch.from_numpy(data.counts))
    norms = np.linalg.norm(data.head.weight * data.head.scale, axis=1)
    training = HeadTraining(decay=0.1, batch=64)

    def train(rate: float, radius: float) -> HeadArrays:
        weight, bias = base_parameters(data)

        def loss(x: Tensor, y: Tensor) -> Tensor:
            return class_balanced_loss(functional.linear(x, weight, bias), y, weights)

        sgd([weight, bias], loss, data, training, rate, after_epoch=lambda: project(weight, radius))
        return as_arrays(weight, bias)

    found = []
    for threshold in THRESHOLDS:
        radius = float(norms.min() + threshold * np.ptp(norms))
        (rows, biases), rate = best_rate(data, partial(train, radius=radius), RATES)
        settings = {"lr": rate, "radius": radius}
        found.append(linear("weight-balancing", data, rows, biases, settings=settings))
    return max(found, key=lambda one: one.val["overall"] or 0.0)


def project(weight: Tensor, radius: float) -> None:
    """Scale rows longer than ``radius`` back to it, in place (Alshammari et al. 2022, MaxNorm)."""
    with torch.no_grad():
        norms = weight.norm(dim=1, keepdim=True)
        weight *= (radius / norms.clamp_min(radius)).clamp_max(1)
