"""Gradients that are worked out by hand are those that PyTorch finds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from alphafix.rivals import losses, slopes
from alphafix.rivals.data import FitData
from alphafix.rivals.disalign import DisAlign, aligned
from alphafix.rivals.retrained import CosineHead, LinearHead, ScaledHead, TrainableHead
from tests.rivals.problems import small_data

HEADS, CLASSES, SAMPLES = 3, 7, 40
COUNTS = torch.tensor([90.0, 60.0, 40.0, 20.0, 10.0, 4.0, 1.0], dtype=torch.float64)
WEIGHTS = torch.linspace(0.2, 3.0, CLASSES, dtype=torch.float64)

Loss = Callable[[Tensor, Tensor], Tensor]


def class_balanced(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    truth = functional.one_hot(labels, CLASSES).to(logits.dtype)
    shares = logits.softmax(dim=1)
    return functional.binary_cross_entropy(shares, truth, weight=weights[labels, None])


def with_regulariser(logits: Tensor, labels: Tensor) -> Tensor:
    plain = losses.balanced_softmax(logits, labels, COUNTS)
    return plain + 0.1 * losses.lader(logits, labels, COUNTS)


CASES: dict[str, tuple[slopes.Slope, Loss]] = {
    "cross_entropy": (slopes.cross_entropy, functional.cross_entropy),
    "weighted_cross_entropy": (
        partial(slopes.weighted_cross_entropy, weights=WEIGHTS),
        partial(functional.cross_entropy, weight=WEIGHTS),
    ),
    "balanced_softmax": (
        partial(slopes.balanced_softmax, counts=COUNTS),
        partial(losses.balanced_softmax, counts=COUNTS),
    ),
    "focal": (slopes.focal, losses.focal_loss),
    "focal, gamma 3": (partial(slopes.focal, gamma=3.0), partial(losses.focal_loss, gamma=3.0)),
    "ldam": (
        partial(slopes.ldam, delta=losses.margins(COUNTS)),
        partial(losses.ldam_loss, delta=losses.margins(COUNTS)),
    ),
    "lade": (partial(slopes.lade, counts=COUNTS, weight=0.1), with_regulariser),
    "class_balanced": (
        partial(slopes.class_balanced, weights=WEIGHTS),
        partial(class_balanced, weights=WEIGHTS),
    ),
}


@pytest.mark.parametrize("spread", [0.3, 1.0, 5.0])
@pytest.mark.parametrize("name", CASES)
def test_slope__is_the_gradient_of_each_heads_own_loss(name: str, spread: float) -> None:
    slope, loss = CASES[name]
    generator = torch.Generator().manual_seed(0)
    # In double precision: in single both lose digits where a share is nearly one.
    logits = torch.randn(SAMPLES, HEADS, CLASSES, generator=generator).double() * spread
    labels = torch.randint(CLASSES, (SAMPLES,), generator=generator)
    watched = logits.clone().requires_grad_()
    value = torch.stack([loss(watched[:, head], labels) for head in range(HEADS)]).sum()
    (expected,) = torch.autograd.grad(value, watched)
    torch.testing.assert_close(slope(logits.clone(), labels), expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_slope__is_finite_where_a_share_is_zero_or_one(name: str) -> None:
    slope, _ = CASES[name]
    logits = torch.zeros(2, 1, CLASSES, dtype=torch.float64)
    logits[0, 0, 0], logits[1, 0, 1] = 1000.0, -1000.0
    assert torch.isfinite(slope(logits, torch.tensor([1, 1]))).all()


def plain(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return functional.linear(x, weight, bias)


def without_bias(x: Tensor, weight: Tensor) -> Tensor:
    return functional.linear(x, weight)


def cosines(x: Tensor, weight: Tensor) -> Tensor:
    return functional.linear(functional.normalize(x), functional.normalize(weight))


def scaled(x: Tensor, scales: Tensor) -> Tensor:
    head = small_data().head
    weight, bias = torch.from_numpy(head.weight), torch.from_numpy(head.bias_or_zeros)
    logits = functional.linear(x, weight, bias)
    return scales * logits.repeat(1, HEADS)


HEAD_KINDS: dict[str, tuple[Callable[[FitData, int], TrainableHead], Callable[..., Tensor]]] = {
    "linear": (LinearHead.of_base, plain),
    "without bias": (LinearHead.new_like_given, without_bias),
    "scaled": (ScaledHead, scaled),
    "cosine": (CosineHead, cosines),
}


@pytest.mark.parametrize("kind", HEAD_KINDS)
def test_head__gradients_are_pytorchs_and_arrays_are_the_head(kind: str) -> None:
    data = small_data(bias=kind != "without bias")
    start, formula = HEAD_KINDS[kind]
    head = start(data, HEADS)
    generator = torch.Generator().manual_seed(0)
    for parameter in head.parameters:
        parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    x = torch.from_numpy(data.features[:30])
    slope = torch.randn(30, HEADS, data.head.num_classes, generator=generator)
    watched = [parameter.clone().requires_grad_() for parameter in head.parameters]
    expected = formula(x, *watched).view(slope.shape)
    logits = head.logits(x)
    torch.testing.assert_close(logits, expected.detach(), rtol=1e-5, atol=1e-5)
    theirs = torch.autograd.grad(expected, watched, slope)
    for one, other in zip(head.gradients(x, slope.clone()), theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    rows, biases = (torch.from_numpy(array) for array in head.arrays())
    ranks = (functional.linear(x, rows, biases)).view(slope.shape).argmax(dim=2)
    assert torch.equal(ranks, logits.argmax(dim=2))


def test_disalign__gradients_are_pytorchs() -> None:
    data = small_data(scale=2.0)
    model = DisAlign(data, HEADS)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters:
        parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    x, labels = torch.from_numpy(data.features[:30]), torch.from_numpy(data.labels[:30])
    scale, shift, direction, level = (one.clone().requires_grad_() for one in model.parameters)
    logits = functional.linear(x, model.weight, model.bias)[:, None]
    confidence = torch.sigmoid(x @ direction.T + level)[:, :, None]
    found = aligned(logits, confidence, scale, shift)
    torch.testing.assert_close(model(x), found.detach(), rtol=1e-5, atol=1e-5)
    loss = torch.stack([functional.cross_entropy(found[:, r], labels) for r in range(HEADS)]).sum()
    theirs = torch.autograd.grad(loss, [scale, shift, direction, level])
    ours = model.gradients(x, labels, slopes.cross_entropy)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
