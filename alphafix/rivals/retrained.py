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
    RATES,
    HeadArrays,
    HeadTraining,
    Loss,
    apart,
    as_arrays,
    base_parameters,
    best_head,
    new_parameters,
    sgd,
    side_by_side,
)


@dataclass(frozen=True)
class TrainableHead:
    """A head while it is trained, or R of them side by side.

    Attributes:
        parameters: What is trained; the heads follow one another along the first axis of each.
        logits: Features, n x D -> what the loss takes, n x (R C).
        arrays: The linear heads that they are now, (R C) x D and R C.
    """

    parameters: Sequence[Tensor]
    logits: Callable[[Tensor], Tensor]
    arrays: Callable[[], HeadArrays]


def base_head(data: FitData, heads: int = 1) -> TrainableHead:
    """W x + b, from the base head on."""
    return _linear_head(*base_parameters(data, heads))


def new_head(data: FitData, heads: int = 1) -> TrainableHead:
    """W x + b, from new parameters on."""
    return _linear_head(*new_parameters(data, heads))


def _linear_head(weight: Tensor, bias: Tensor) -> TrainableHead:
    return TrainableHead(
        [weight, bias],
        lambda x: functional.linear(x, weight, bias),
        lambda: as_arrays(weight, bias),
    )


def scaled_head(data: FitData, heads: int = 1) -> TrainableHead:
    """s_c (w_c x + b_c) of the base head, only s trained (Kang et al. 2020)."""
    weight, bias = (parameter.detach() for parameter in base_parameters(data))
    scales = torch.ones(heads * len(weight), requires_grad=True)
    return TrainableHead(
        [scales],
        lambda x: scales * functional.linear(x, weight, bias).repeat(1, heads),
        lambda: as_arrays(scales[:, None] * weight.repeat(heads, 1), scales * bias.repeat(heads)),
    )


def cosine_head(data: FitData, heads: int = 1) -> TrainableHead:
    """Cosines of features and rows, from the base head's directions on.

    The length of a feature is common to all classes, so that the normalised rows rank as the
    trained classifier does: a linear head without bias.
    """
    weight, bias = base_parameters(data, heads)
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
        start: The head at the start, or several of it.
        training: Epochs, sampler, batch size and decay.
        of_batch: Whether the loss is no mean over samples (see `side_by_side`).
    """

    loss: Callable[[Tensor], Loss]
    start: Callable[[FitData, int], TrainableHead] = base_head
    training: HeadTraining = field(default_factory=HeadTraining)
    of_batch: bool = False


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
    # Wang, Ramanan and Hebert 2017: each class weighed by its inverse frequency.
    "cost-sensitive": Retraining(
        # Its mean is weighted by those of the batch.
        lambda counts: partial(functional.cross_entropy, weight=inverse_weights(counts)),
        of_batch=True,
    ),
    "focal": Retraining(lambda counts: focal_loss),
    "ldam": Retraining(lambda counts: partial(ldam_loss, delta=margins(counts)), cosine_head),
    "lade": Retraining(_lade, of_batch=True),
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
    start = new_head if data.head.bias is not None else _new_head_without_biases
    return _train(data, Retraining(_cross_entropy, start, HeadTraining(balanced=balanced)), RATES)


def _new_head_without_biases(data: FitData, heads: int = 1) -> TrainableHead:
    weight, _ = new_parameters(data, heads)
    return TrainableHead(
        [weight],
        lambda x: functional.linear(x, weight),
        lambda: as_arrays(weight, torch.zeros(len(weight))),
    )


def _train(data: FitData, how: Retraining, rates: Sequence[float]) -> list[HeadArrays]:
    """One head with each learning rate, all of them side by side."""
    head = how.start(data, len(rates))
    loss = how.loss(torch.from_numpy(data.counts).float())
    together = side_by_side(loss, len(rates), of_batch=how.of_batch)
    sgd(head.parameters, lambda x, y: together(head.logits(x), y), data, how.training, rates)
    return apart(head.arrays(), len(rates))


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
    together = side_by_side(partial(class_balanced_loss, weights=weights), heads)
    sgd(
        [weight, bias],
        lambda x, y: together(functional.linear(x, weight, bias), y),
        data,
        HeadTraining(decay=0.1, batch=64),
        rates,
        after_epoch=lambda: project(weight, balls),
    )
    return apart(as_arrays(weight, bias), heads)


def project(weight: Tensor, radius: float | Tensor) -> None:
    """Scale rows longer than ``radius`` back to it, in place (Alshammari et al. 2022, MaxNorm).

    Args:
        weight: Rows, R x D.
        radius: That of all rows, or one a row, R x 1.
    """
    with torch.no_grad():
        norms = weight.norm(dim=1, keepdim=True)
        weight *= (radius / norms.clamp_min(radius)).clamp_max(1)
