"""Losses of the centroids by hand and by finite differences, and their start."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from alphafix.errors import InputError
from alphafix.features.sums import ClassSums
from alphafix.oltr.losses.centroids import (
    attraction,
    centroid_pull,
    margin_loss,
    official_loss,
    repulsion,
)
from alphafix.oltr.losses.objectives import OLTRObjective
from alphafix.oltr.models.heads import OLTRHead
from alphafix.oltr.models.spec import OFFICIAL, PRESETS, Preset
from alphafix.oltr.training.pipeline import first_centroids

SETTING = {"weight": 0.01, "margin": 10.0, "repulsion_weight": 0.01}


def problem(*, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """7 features, their labels and 5 centroids in float64; two of the classes have no sample."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(7, 3, generator=generator, dtype=torch.float64)
    centroids = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    return features, torch.tensor([0, 0, 0, 1, 1, 3, 0]), centroids


def differences(function: object, at: Tensor, step: float = 1e-6) -> Tensor:
    """Central finite differences of a scalar function."""
    assert callable(function)
    gradient = torch.zeros_like(at)
    for index in range(at.numel()):
        ends = []
        for sign in (1, -1):
            moved = at.clone()
            moved.view(-1)[index] += sign * step
            ends.append(float(function(moved)))
        gradient.view(-1)[index] = (ends[0] - ends[1]) / (2 * step)
    return gradient


def test_attraction_and_repulsion__are_their_sums() -> None:
    features, labels, centroids = problem()
    squares = (features[:, None] - centroids[None]).square().sum(2)
    own = torch.stack([squares[n, y] for n, y in enumerate(labels)])
    assert float(attraction(features, labels, centroids)) == pytest.approx(float(own.sum()) / 14)
    mean = float(squares.sum() - own.sum()) / (7 * 5)
    assert float(repulsion(features, labels, centroids, 10.0)) == pytest.approx(10 - mean)
    assert float(repulsion(features, labels, centroids, mean - 0.01)) == 0


def test_official_loss__has_the_value_of_its_two_parts() -> None:
    features, labels, centroids = problem()
    expected = 0.01 * (
        attraction(features, labels, centroids)
        + 0.01 * repulsion(features, labels, centroids, 10.0)
    )
    torch.testing.assert_close(official_loss(features, labels, centroids, **SETTING), expected)


def test_official_loss__feature_gradient_by_finite_differences() -> None:
    features, labels, centroids = problem()
    features.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda f: official_loss(f, labels, centroids, **SETTING), (features,)
    )


@pytest.mark.parametrize("margin", [10.0, 0.0])
def test_official_loss__centroid_gradient_is_the_official_one(margin: float) -> None:
    features, labels, centroids = problem()
    leaf = centroids.clone().requires_grad_()
    setting = {**SETTING, "margin": margin}
    (found,) = torch.autograd.grad(official_loss(features, labels, leaf, **setting), leaf)
    # In words: sum over a class of (c - f), by one more than its samples, by the batch.
    pull = torch.zeros_like(centroids)
    for n, y in enumerate(labels.tolist()):
        pull[y] += (centroids[y] - features[n]) / (1 + [4, 2, 0, 1, 0][y]) / 7
    push = differences(lambda c: repulsion(features, labels, c, margin), centroids)
    torch.testing.assert_close(found, pull + 1e-4 * push, rtol=1e-6, atol=1e-9)
    # And as finite differences: those of the attraction, without its weight, by 1 + n_c.
    slope = differences(lambda c: attraction(features, labels, c), centroids)
    counts = torch.tensor([4.0, 2.0, 0.0, 1.0, 0.0], dtype=torch.float64)
    expected = slope / (1 + counts)[:, None] + 1e-4 * push
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


def test_centroid_pull__gradient_by_finite_differences() -> None:
    features, labels, centroids = problem()
    features.requires_grad_()
    centroids.requires_grad_()
    assert torch.autograd.gradcheck(lambda f, c: centroid_pull(f, labels, c), (features, centroids))


def test_official_loss__scales_as_a_whole() -> None:
    # As a gradient scaler for fp16 needs it.
    features, labels, centroids = problem()
    gradients = []
    for factor in (1.0, 1024.0):
        leaf = centroids.clone().requires_grad_()
        torch.autograd.backward(factor * official_loss(features, labels, leaf, **SETTING))
        assert leaf.grad is not None
        gradients.append(leaf.grad)
    torch.testing.assert_close(1024 * gradients[0], gradients[1])


def test_official_loss__step_of_a_class_is_a_blend_with_its_batch_mean() -> None:
    # At learning rate B: c moves n/(1 + n) of the way to the mean of its samples.
    features, labels, centroids = problem()
    leaf = centroids.clone().requires_grad_()
    setting = {**SETTING, "repulsion_weight": 0.0}
    (found,) = torch.autograd.grad(official_loss(features, labels, leaf, **setting), leaf)
    moved = centroids - 7 * found
    expected = centroids[0] + 4 / 5 * (features[labels == 0].mean(0) - centroids[0])
    torch.testing.assert_close(moved[0], expected)
    torch.testing.assert_close(moved[2], centroids[2])


def test_margin_loss__gradients_by_finite_differences() -> None:
    features, labels, centroids = problem()
    features.requires_grad_()
    centroids.requires_grad_()
    # A margin at which some samples are inside and some outside.
    losses = torch.cdist(features, centroids)
    own = losses.gather(1, labels[:, None])[:, 0]
    middle = (losses.sum(1) - 2 * own).detach().median()
    margin = float(middle) + 1e-3
    assert torch.autograd.gradcheck(
        lambda f, c: margin_loss(f, labels, c, margin), (features, centroids)
    )


def test_margin_loss__embedding_on_its_centroid_has_a_finite_gradient() -> None:
    centroids = torch.tensor([[1.0, 2.0], [1.0, 2.5]], requires_grad=True)
    features = centroids.detach().clone().requires_grad_()
    torch.autograd.backward(margin_loss(features, torch.tensor([0, 1]), centroids, 5.0))
    assert features.grad is not None
    assert centroids.grad is not None
    assert torch.isfinite(features.grad).all()
    assert torch.isfinite(centroids.grad).all()


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
@pytest.mark.parametrize("labels", [[2, 2, 2, 2], [0]], ids=["one class", "one sample"])
def test_batch_of_one_class__trains_like_any_other(preset: Preset, labels: list[int]) -> None:
    torch.manual_seed(0)
    head = OLTRHead(6, 4, preset)
    direct = torch.randn(len(labels), 6, requires_grad=True)
    loss = OLTRObjective(head)(head(direct), torch.tensor(labels))
    loss.backward()
    assert torch.isfinite(loss)
    for tensor in (direct, *head.parameters()):
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()


def test_objective__its_group_is_the_centroids_alone() -> None:
    head = OLTRHead(6, 4)
    objective = OLTRObjective(head)
    (group,) = objective.parameter_groups()
    assert group == {
        "params": [head.centroids],
        "lr": 0.01,
        "momentum": 0.9,
        "weight_decay": 5e-4,
    }
    # They are saved with the model, once.
    assert not objective.state_dict()
    assert "centroids" in head.state_dict()


def test_objective__moves_centroids_to_their_class() -> None:
    torch.manual_seed(0)
    head = OLTRHead(4, 3, OFFICIAL)
    objective = OLTRObjective(head)
    labels = torch.arange(3).repeat(8)
    target = 5 * torch.eye(3, 4)
    (group,) = objective.parameter_groups()
    optimiser = torch.optim.SGD([{**group, "lr": 0.5, "weight_decay": 0.0}])
    for _ in range(100):
        optimiser.zero_grad()
        direct = target[labels]
        objective(head(direct), labels).backward()
        optimiser.step()
    torch.testing.assert_close(head.centroids.detach(), target, rtol=0, atol=0.05)


def means_of(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    sums = ClassSums(classes, features.shape[1])
    sums.add(features.numpy(), labels.numpy())
    return first_centroids(sums)


def test_class_means__hand_computed() -> None:
    features = torch.tensor([[1.0, 2.0], [3.0, 4.0], [10.0, 0.0]])
    means = means_of(features, torch.tensor([0, 0, 1]), 2)
    assert means.tolist() == [[2.0, 3.0], [10.0, 0.0]]
    assert means.dtype == torch.float32


def test_class_means__batch_by_batch_are_those_of_all() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(40, 3, generator=generator)
    labels = torch.arange(40) % 4
    sums = ClassSums(4, 3)
    for start in range(0, 40, 7):
        part = slice(start, start + 7)
        sums.add(features[part].numpy(), labels[part].numpy())
    torch.testing.assert_close(first_centroids(sums), means_of(features, labels, 4))


def test_class_means__of_parts_that_are_added_up_are_those_of_all() -> None:
    # Neither part has a sample of every class.
    features, labels = torch.arange(8.0).view(4, 2).numpy(), np.array([0, 0, 1, 0])
    whole, part, other = ClassSums(2, 2), ClassSums(2, 2), ClassSums(2, 2)
    whole.add(features, labels)
    part.add(features[:2], labels[:2])
    other.add(features[2:3], labels[2:3])
    part.sums += other.sums
    part.counts += other.counts
    part.add(features[3:], labels[3:])
    torch.testing.assert_close(first_centroids(part), first_centroids(whole))


def test_class_means__names_a_class_without_samples() -> None:
    with pytest.raises(InputError) as caught:
        means_of(torch.zeros(2, 3), torch.tensor([0, 2]), 4)
    message = str(caught.value)
    assert "some classes have no sample" in message
    assert "none of class 1, 3" in message


def test_class_means__counts_the_classes_that_it_does_not_name() -> None:
    with pytest.raises(InputError, match=r"none of class 1, 2, 3, 4, \.\.\. \(9 in all\)"):
        means_of(torch.zeros(1, 3), torch.tensor([0]), 10)
