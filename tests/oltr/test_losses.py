"""Losses of the competitors: hand-computed values, derivatives, and odd batches."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from alphafix.oltr.losses.diversity import (
    diversity,
    expert_margin_loss,
    routing_loss,
    temperatures,
)
from alphafix.oltr.losses.pairs import (
    intra_class_ranges,
    least_center_distance,
    lifted_loss,
    range_loss,
)
from alphafix.rivals.losses import margins

Loss = Callable[[Tensor, Tensor], Tensor]


def whole_range_loss(features: Tensor, labels: Tensor) -> Tensor:
    return range_loss(features, labels, margin=50.0, alpha=0.3, beta=0.7)


METRIC_LOSSES = pytest.mark.parametrize("loss", [lifted_loss, whole_range_loss])


def drawn(labels: list[int], width: int = 3) -> tuple[Tensor, Tensor]:
    features = torch.randn(
        len(labels), width, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    return features.requires_grad_(), torch.tensor(labels)


def gradient(loss: Loss, features: Tensor, labels: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(loss(features, labels), features)
    return found


def lifted_by_hand(features: list[list[float]], labels: list[int], margin: float) -> float:
    """The definition, written as loops."""
    samples = range(len(labels))

    def repelled(i: int) -> float:
        others = [k for k in samples if labels[k] != labels[i]]
        return sum(math.exp(margin - math.dist(features[i], features[k])) for k in others)

    terms = [
        math.log(repelled(i) + repelled(j)) + math.dist(features[i], features[j])
        for i, j in itertools.combinations(samples, 2)
        if labels[i] == labels[j]
    ]
    return sum(max(0.0, term) ** 2 for term in terms) / (2 * len(terms))


def test_lifted__one_positive_pair_by_hand() -> None:
    features = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 2.0]])
    # D_01 = 5; sample 2 is 2 from sample 0 and sqrt(13) from sample 1.
    inner = math.log(math.exp(1 - 2) + math.exp(1 - math.sqrt(13))) + 5
    found = lifted_loss(features, torch.tensor([0, 0, 1]))
    assert found.item() == pytest.approx(inner**2 / 2, rel=1e-6)


def test_lifted__is_the_definition_on_a_batch_with_inactive_terms() -> None:
    features, labels = drawn([0, 0, 1, 1, 1, 2, 3, 3])
    spread = features.detach() * torch.tensor([0.1, 4.0, 4.0])
    expected = lifted_by_hand(spread.tolist(), labels.tolist(), 1.0)
    assert lifted_loss(spread, labels).item() == pytest.approx(expected, rel=1e-12)
    near = torch.tensor([[0.0], [0.1], [90.0], [90.2]])
    assert lifted_loss(near, torch.tensor([0, 0, 1, 1])).item() == 0.0


def test_ranges__are_the_harmonic_mean_of_the_two_largest() -> None:
    features = torch.tensor([[0.0], [1.0], [3.0], [10.0], [12.0], [20.0]])
    # Class 0: squared ranges 9, 4, 1. Class 1: one pair, 4. Class 2: none.
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    expected = 2 / (1 / 9 + 1 / 4) + 4
    assert intra_class_ranges(features, labels).item() == pytest.approx(expected, rel=1e-6)
    mixed = torch.tensor([3, 0, 5, 1, 4, 2])
    assert intra_class_ranges(features[mixed], labels[mixed]).item() == pytest.approx(expected)


def test_centers__the_nearest_two_count() -> None:
    features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [1.0, 3.0], [9.0, 9.0]])
    found = least_center_distance(features, torch.tensor([0, 0, 1, 7]))
    assert found is not None
    assert found.item() == pytest.approx(9.0)  # (1, 0) and (1, 3)


def test_range__adds_the_margin_that_the_nearest_centres_miss() -> None:
    features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [1.0, 3.0], [9.0, 9.0]])
    labels = torch.tensor([0, 0, 1, 7])
    found = range_loss(features, labels, margin=10.0, alpha=0.5, beta=2.0)
    assert found.item() == pytest.approx(0.5 * 4 + 2.0 * (10 - 9))
    apart = range_loss(features, labels, margin=8.0, alpha=0.5, beta=2.0)
    assert apart.item() == pytest.approx(0.5 * 4)


@METRIC_LOSSES
def test_metric_loss__gradient_is_the_derivative(loss: Loss) -> None:
    features, labels = drawn([0, 0, 1, 1, 1, 2, 0, 2])
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), (features,))


@METRIC_LOSSES
@pytest.mark.parametrize("labels", [[4], [4, 4, 4]], ids=["one sample", "one class"])
def test_metric_loss__batch_of_one_class_is_finite(loss: Loss, labels: list[int]) -> None:
    features, classes = drawn(labels)
    assert torch.isfinite(loss(features, classes))
    assert torch.isfinite(gradient(loss, features, classes)).all()


def test_lifted__nothing_to_repel_or_attract_is_zero() -> None:
    for labels in ([4, 4, 4], [0, 1, 2]):
        features, classes = drawn(labels)
        assert lifted_loss(features, classes).item() == 0.0
        assert gradient(lifted_loss, features, classes).abs().max().item() == 0.0


def test_range__one_sample_a_class_leaves_the_centres() -> None:
    features, labels = drawn([2, 0, 1])
    nearest = min(math.dist(a, b) for a, b in itertools.combinations(features.tolist(), 2)) ** 2
    assert intra_class_ranges(features, labels).item() == 0.0
    assert whole_range_loss(features, labels).item() == pytest.approx(0.7 * (50 - nearest))
    assert torch.isfinite(gradient(whole_range_loss, features, labels)).all()


def test_range__one_class_leaves_the_ranges() -> None:
    features, labels = drawn([3, 3, 3])
    ranges = intra_class_ranges(features, labels).item()
    assert ranges > 0
    assert whole_range_loss(features, labels).item() == pytest.approx(0.3 * ranges)


@METRIC_LOSSES
def test_metric_loss__the_same_sample_twice_is_finite(loss: Loss) -> None:
    labels = torch.tensor([0, 0, 0, 1, 1])
    features = torch.tensor([[1.0, 2.0]] * 3 + [[0.0, 1.0], [1.0, 0.0]], requires_grad=True)
    assert torch.isfinite(loss(features, labels))
    assert torch.isfinite(gradient(loss, features, labels)).all()


def test_ranges__the_same_sample_twice_has_range_zero() -> None:
    features = torch.tensor([[1.0], [1.0], [5.0]])
    assert intra_class_ranges(features[:2], torch.zeros(2).long()).item() == pytest.approx(0)
    assert intra_class_ranges(features, torch.zeros(3).long()).item() == pytest.approx(16.0)


@METRIC_LOSSES
def test_metric_loss__half_precision_is_widened(loss: Loss) -> None:
    labels = torch.tensor([0, 0, 1, 1])
    features = 300 * torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    found = loss(features.half(), labels)  # squares of 90,000 are no float16 numbers
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(loss(features, labels).item())


def test_temperatures__rare_classes_have_the_lower_ones() -> None:
    # psi = 2 * (90, 10) / 100 = 1.8, 0.2; 0.05 psi + 0.95 = 1.04, 0.96.
    found = temperatures(torch.tensor([90, 10]))
    assert found.tolist() == pytest.approx([1.0, 0.96 / 1.04])


def test_diversity__two_experts_by_hand() -> None:
    logits = torch.tensor([[[2.0, 0.0]], [[0.0, 2.0]]])
    expected = 0.0
    for one in ([2.0, 0.0], [0.0, 2.0]):  # the mean is (1, 1), so that p = (1/2, 1/2)
        total = math.exp(one[0]) + math.exp(one[1])
        expected += sum(0.5 * math.log(0.5 * total / math.exp(z)) for z in one)
    assert diversity(logits, torch.ones(2)).item() == pytest.approx(expected, rel=1e-6)
    # Temperatures (1/2, 1) divide the logits and multiply by the squared mean, 9/16.
    cool = diversity(logits, torch.tensor([0.5, 1.0])).item()
    q = [math.exp(2.0) / (math.exp(2.0) + math.exp(1.0))]
    q.append(1 - q[0])
    each = [[math.exp(4.0), 1.0], [1.0, math.exp(2.0)]]
    expected = sum(
        p * math.log(p * sum(one) / z) for one in each for p, z in zip(q, one, strict=True)
    )
    assert cool == pytest.approx(0.75**2 * expected, rel=1e-5)


def test_diversity__equal_experts_give_zero_and_no_pull_on_the_mean() -> None:
    one = torch.randn(1, 4, 5, dtype=torch.float64)
    assert diversity(one.repeat(3, 1, 1), torch.ones(5)).item() == pytest.approx(0, abs=1e-12)
    logits = torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True)
    held = logits.detach().mean(dim=0).log_softmax(dim=1)

    def against_the_held_mean(x: Tensor) -> Tensor:
        return (held.exp() * (held - x.log_softmax(dim=2))).sum(dim=(0, 2)).mean()

    assert torch.autograd.gradcheck(against_the_held_mean, (logits,))
    (expected,) = torch.autograd.grad(against_the_held_mean(logits), logits)
    (found,) = torch.autograd.grad(diversity(logits, torch.ones(5).double()), logits)
    assert torch.allclose(found, expected)


def test_expert_margin_loss__lowers_the_own_class_by_its_margin() -> None:
    delta = margins(torch.tensor([16.0, 1.0]))  # 1/2 and 1, scaled to the largest 0.5
    assert delta.tolist() == pytest.approx([0.25, 0.5])
    cosines = [[0.9, 0.1], [0.2, 0.3]]
    expected = 0.0
    for own, other, margin in ((0.9, 0.1, 0.25), (0.2, 0.3, 0.25)):
        expected += math.log(1 + math.exp(30 * (other - own + margin)))
    logits = 30 * torch.tensor(cosines)[:, None, :]
    found = expert_margin_loss(logits, torch.tensor([0]), delta)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_routing__misses_weigh_more() -> None:
    scores, needed = torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0])
    expected = (100 * math.log(2) + math.log(1 + math.e)) / 2
    assert routing_loss(scores, needed, 100.0).item() == pytest.approx(expected)
