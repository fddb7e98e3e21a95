"""Heads trained side by side are the heads that each would be alone."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from alphafix.rivals import disalign, retrained, slopes
from alphafix.rivals.few_shot.fslwf import Generator
from alphafix.rivals.few_shot.mappings import Mappings
from alphafix.rivals.few_shot.metamodelnet import Chain
from alphafix.rivals.few_shot.shots import Shots, draw, draw_each
from alphafix.rivals.losses import balanced_softmax
from alphafix.rivals.training import Adam, HeadTraining, base_parameters, sgd
from alphafix.values.labels import ByClass
from tests.rivals.problems import small_data

RATES = (0.02, 0.2, 1.0)


@pytest.mark.parametrize("name", retrained.RETRAINED)
def test_heads_side_by_side__are_those_of_each_rate_alone(name: str) -> None:
    data = small_data(scale=2.0)
    how = retrained.RETRAINED[name]
    how = replace(how, training=replace(how.training, epochs=3, batch=50))
    together = retrained._train(data, how, RATES)
    for rate, (rows, biases) in zip(RATES, together, strict=True):
        ((alone, alone_biases),) = retrained._train(data, how, (rate,))
        assert rows == pytest.approx(alone, rel=1e-4, abs=1e-5)
        assert biases == pytest.approx(alone_biases, rel=1e-4, abs=1e-5)


def test_disalign__side_by_side_is_each_alone() -> None:
    data = small_data(scale=2.0)
    training = HeadTraining(epochs=2, batch=50)

    def trained(rates: tuple[float, ...]) -> disalign.DisAlign:
        model = disalign.DisAlign(data, len(rates))
        sgd(
            model.parameters,
            partial(model.gradients, slope=slopes.cross_entropy),
            data,
            training,
            rates,
        )
        return model

    together = trained(RATES)
    for place, rate in enumerate(RATES):
        found, alone = (
            one.logits(data.val_features) for one in (together.only(place), trained((rate,)))
        )
        assert found == pytest.approx(alone, abs=1e-4)


def test_sgd__is_that_of_pytorch() -> None:
    data = small_data()
    how = replace(retrained.RETRAINED["balanced-softmax"], training=HeadTraining(2, batch=50))
    ((rows, _),) = retrained._train(data, how, (0.2,))
    parameters = [torch.nn.Parameter(one) for one in base_parameters(data)]
    counts = torch.from_numpy(data.counts).float()
    optimiser = torch.optim.SGD(parameters, lr=0.2, momentum=0.9, weight_decay=5e-4)
    rng = np.random.default_rng(data.seed)
    features, labels = torch.from_numpy(data.features), torch.from_numpy(data.labels)
    steps = how.training.steps(len(labels))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 2 * steps)
    for _ in range(2):
        order = torch.from_numpy(rng.permutation(len(labels)))
        for index in torch.split(order, 50):
            optimiser.zero_grad()
            logits = functional.linear(features[index], *parameters)
            loss = balanced_softmax(logits, labels[index], counts)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    assert rows == pytest.approx(parameters[0].detach(), rel=1e-4, abs=1e-6)


def test_sgd__takes_numbers_that_are_nearly_zero_for_zero_only_while_it_trains() -> None:
    data, seen = small_data(), []
    weight = torch.zeros(2, 2)

    def gradients(x: Tensor, y: Tensor) -> list[Tensor]:
        seen.append(float(torch.full((1,), 1e-39).mul(0.5)))
        return [weight]

    sgd([weight], gradients, data, HeadTraining(1), 0.1)
    assert set(seen) == {0.0}
    assert float(torch.full((1,), 1e-39).mul(0.5)) > 0


@pytest.mark.parametrize("count", [1, 2, 5, 9, 30])
def test_draw_each__is_the_draw_of_class_after_class(count: int) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 3], [9, 40, 300, 12]))
    groups = ByClass.of(labels)
    classes = np.array([3, 0, 2, 1, 2])
    one, other = np.random.default_rng(1), np.random.default_rng(1)
    for _ in range(3):
        drawn = draw_each(groups, classes, count, one)
        expected = np.stack([draw(groups, label, count, other) for label in classes.tolist()])
        assert (labels[drawn] == classes[:, None]).all()
        assert (np.sort(drawn, axis=1) == np.sort(expected, axis=1)).all()
    assert one.integers(1 << 40) == other.integers(1 << 40)


def test_mappings__are_each_alone() -> None:
    data = small_data()
    shots, rng = Shots.of(data), np.random.default_rng(0)
    model = Chain(shots.targets.shape[1], 3)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(0))
    many = Mappings(model, 2)
    with torch.no_grad():
        many.parameters["blocks.2.bias"][1] += 1
    rows, places = shots.few_rows(), np.array([0, 3, 4])
    found = many(rows, 1)
    expected = model(rows, 1).detach()
    np.testing.assert_allclose(found.detach(), torch.stack([expected, expected + 1]), rtol=1e-5)
    losses = shots.task_loss(found[:, :3], places, rng)
    for place in range(2):
        again = np.random.default_rng(0)
        alone = shots.task_loss(found[place, :3], places, again)
        assert float(losses[place].detach()) == pytest.approx(float(alone.detach()), rel=1e-5)


def test_generator__makes_rows_of_many_classes_as_of_each() -> None:
    generator = torch.Generator().manual_seed(0)
    model = Generator(torch.randn(6, 4, generator=generator))
    support, hidden = torch.randn(3, 5, 4, generator=generator), torch.tensor([1, 4])
    together = model(support, hidden).detach()
    for own, row in zip(support, together, strict=True):
        assert row.tolist() == pytest.approx(model(own, hidden).tolist(), rel=1e-5)


def test_adam__is_that_of_pytorch() -> None:
    mine, theirs = (torch.arange(5.0).requires_grad_() for _ in range(2))
    ours, expected = Adam([mine], 0.1), torch.optim.Adam([theirs], lr=0.1)
    for step in range(5):
        ours.step((mine**2 * (step + 1)).sum())
        expected.zero_grad()
        torch.autograd.backward((theirs**2 * (step + 1)).sum())
        expected.step()
    np.testing.assert_allclose(mine.detach(), theirs.detach(), rtol=1e-5)
