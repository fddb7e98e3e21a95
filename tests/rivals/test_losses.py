"""Losses, samplers and parts of the trained rivals against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from alphafix.rivals import disalign, retrained
from alphafix.rivals.data import FitData
from alphafix.rivals.few_shot.fslwf import Generator
from alphafix.rivals.few_shot.shots import SHRINKAGE, Shots
from alphafix.rivals.losses import (
    balanced_softmax,
    class_balanced_weights,
    focal_loss,
    inverse_weights,
    lader,
    ldam_loss,
    margins,
)
from alphafix.rivals.training import HeadTraining, balanced_order, best_rate
from alphafix.values.head import Head
from tests.rivals.problems import data_of, small_data

LOGITS = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]])
LABELS = torch.tensor([0, 1])
COUNTS = torch.tensor([1.0, 4.0])


def constant_data(counts: tuple[int, ...] = (5, 40, 200)) -> FitData:
    """Features that say nothing: x = 1 for all samples; only the prior can be learned."""
    labels = np.repeat(np.arange(len(counts)), counts)
    features = np.ones((len(labels), 1), dtype=np.float32)
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(len(counts), 1)).astype(np.float32)
    return data_of(features, labels, Head(weight, np.zeros(len(counts), np.float32)))


def test_balanced_softmax__hand_computed() -> None:
    # n e^z: (1, 12) for the first sample, (1, 4) for the second.
    expected = -(math.log(1 / 13) + math.log(4 / 5)) / 2
    assert float(balanced_softmax(LOGITS, LABELS, COUNTS)) == pytest.approx(expected)


def test_cost_sensitive__hand_computed() -> None:
    # 1 / n is 1 and 1/4, of mean 5/8;
    assert inverse_weights(COUNTS).tolist() == pytest.approx([1.6, 0.4])
    # Shares are 1/4 and 3/4, then 1/2 and 1/2; less one at the label, times 1.6 / 2 and 0.4 / 2.
    found = retrained.RETRAINED["cost-sensitive"].slope(COUNTS)(LOGITS[:, None].clone(), LABELS)
    expected = [0.8 * -0.75, 0.8 * 0.75, 0.2 * 0.5, 0.2 * -0.5]
    assert found.flatten().tolist() == pytest.approx(expected)


def test_focal__hand_computed_and_cross_entropy_at_gamma_0() -> None:
    # p_y: 1/4 and 1/2.
    expected = ((3 / 4) ** 2 * math.log(4) + (1 / 2) ** 2 * math.log(2)) / 2
    assert float(focal_loss(LOGITS, LABELS)) == pytest.approx(expected)
    plain = functional.cross_entropy(LOGITS, LABELS)
    assert float(focal_loss(LOGITS, LABELS, gamma=0)) == pytest.approx(float(plain))


def test_ldam__margins_and_loss_by_hand() -> None:
    delta = margins(torch.tensor([1.0, 16.0, 81.0]))
    assert delta.tolist() == pytest.approx([0.5, 0.25, 0.5 / 3])
    cosines = torch.tensor([[0.5, 0.1, 0.0]])
    expected = -math.log(1 / (1 + math.exp(30 * (0.1 - 0.0)) + math.exp(0.0)))
    assert float(ldam_loss(cosines, torch.tensor([0]), delta)) == pytest.approx(expected)


def test_lader__hand_computed() -> None:
    # Shares 1/5 and 4/5: p_u / p_s is 5/2 for the first class and 5/8 for the second, whatever
    # the labels of the samples (Hong et al.'s loss/LADELoss.py).
    log_r = math.log(5 / 2 * (1 + 1) / 2), math.log(5 / 8 * (3 + 1) / 2)
    losses = [log - 0.0 + 0.1 * log**2 for log in log_r]
    expected = 1 / 5 * losses[0] + 4 / 5 * losses[1]
    assert float(lader(LOGITS, LABELS, COUNTS)) == pytest.approx(expected)


def test_lader__class_without_samples_in_the_batch_counts() -> None:
    log_r = math.log(5 / 2), math.log(5 / 8 * 3)
    expected = sum(p * (log + 0.1 * log**2) for p, log in zip((1 / 5, 4 / 5), log_r, strict=True))
    assert float(lader(LOGITS[:1], LABELS[:1], COUNTS)) == pytest.approx(expected)


def test_weight_balancing__class_weights_and_ball_by_hand() -> None:
    weights = class_balanced_weights(torch.tensor([1.0, 2.0]), beta=0.5)
    # 0.5 / 0.5 and 0.5 / 0.75, mean 5/6.
    assert weights.tolist() == pytest.approx([1.2, 0.8])
    rows = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    retrained.project(rows, 1.0)
    assert rows.flatten().tolist() == pytest.approx([0.6, 0.8, 0.3, 0.4, 0, 0])


def test_disalign__mixes_by_confidence() -> None:
    logits, ones = torch.tensor([[1.0, 2.0]]), torch.ones(1, 1)
    scale, shift = torch.tensor([2.0, 0.5]), torch.tensor([1.0, -1.0])
    mixed = disalign.aligned(logits, 0.25 * ones, scale, shift)
    # (1 + 0.25 s) z + 0.25 t
    assert mixed.tolist()[0] == pytest.approx([1.5 * 1 + 0.25, 1.125 * 2 - 0.25])
    # The paper's form with s + 1.
    paper = 0.25 * ((scale + 1) * logits + shift) + 0.75 * logits
    assert mixed.tolist()[0] == pytest.approx(paper.tolist()[0])
    weights = disalign.class_weights(torch.tensor([1.0, 32.0]))
    assert float(weights[0] / weights[1]) == pytest.approx(64, rel=1e-4)
    assert float(weights.mean()) == pytest.approx(1)


def test_disalign__starts_at_the_base_head_times_one_plus_the_confidence() -> None:
    data = small_data(scale=2.0)
    model = disalign.DisAlign(data)
    level = 0.1 * data.val_features.sum(axis=1, keepdims=True) + float(model.level.detach())
    assert abs(float(model.level.detach())) <= data.head.width**-0.5
    expected = (1 + 1 / (1 + np.exp(-level))) * data.head.logits(data.val_features)
    assert model.logits(data.val_features) == pytest.approx(expected, abs=1e-4)


def test_weight_balancing__radius_lies_between_the_norms_of_the_rows() -> None:
    data = small_data()
    norms = np.linalg.norm(data.head.weight, axis=1)
    radius = retrained.weight_balancing(data).settings["radius"]
    assert any(radius == pytest.approx(norms.min() + t * np.ptp(norms)) for t in (0.1, 0.5, 1.0))


def test_balanced_order__all_classes_equally_often() -> None:
    labels = np.repeat([0, 1, 2], [2, 30, 400])
    order = balanced_order(labels, np.random.default_rng(0))
    assert len(order) == 432
    assert np.bincount(labels[order]).tolist() == [144, 144, 144]
    assert len(set(order[labels[order] == 2].tolist())) > 80


def test_crt__learns_no_prior_from_features_that_say_nothing() -> None:
    training = HeadTraining(epochs=20, balanced=True, batch=64)
    found = retrained.retrain(constant_data(), name="crt", training=training)
    logits = found.logits(np.ones((1, 1), dtype=np.float32))[0]
    assert np.ptp(logits) < 0.3


def test_balanced_softmax__learns_no_prior_either() -> None:
    training = HeadTraining(epochs=60, batch=49)
    found = retrained.retrain(constant_data(), name="balanced-softmax", training=training)
    logits = found.logits(np.ones((1, 1), dtype=np.float32))[0]
    assert np.ptp(logits) < 0.5


def test_lws__rows_keep_their_direction() -> None:
    data = small_data()
    found = retrained.retrain(data, name="lws").correction
    assert found is not None
    ratio = found.rows / data.head.weight
    assert ratio == pytest.approx(np.broadcast_to(ratio[:, :1], ratio.shape), rel=1e-3)
    assert found.biases is not None
    assert found.biases / data.head.bias_or_zeros == pytest.approx(ratio[:, 0], rel=1e-3)
    assert np.ptp(ratio[:, 0]) > 0.01


def test_best_rate__never_keeps_a_diverged_head() -> None:
    data = small_data()
    good = (data.head.weight, data.head.bias_or_zeros)
    bad = (np.full_like(good[0], np.nan), good[1])
    (rows, _), rate = best_rate(data, lambda r: good if r == 0.2 else bad)
    assert rate == 0.2
    assert rows is good[0]


def test_fslwf__row_by_hand() -> None:
    model = Generator(torch.tensor([[2.0, 0.0], [0.0, 3.0]]))
    support = torch.tensor([[4.0, 0.0], [0.0, 1.0]])
    # phi_att starts at 1, like phi_avg (the authors' LinearDiag).
    assert model.phi_att.tolist() == [1.0, 1.0]
    with torch.no_grad():
        model.gamma.fill_(math.log(3))
    # Each sample attends 3 : 1 to the row of its own direction; the mean is (1/2, 1/2).
    assert model(support[:1]).tolist() == pytest.approx([1 + 3 / 4, 1 / 4])
    assert model(support).tolist() == pytest.approx([1.0, 1.0])
    # Hidden classes are not attended to.
    assert model(support[:1], torch.tensor([0])).tolist() == pytest.approx([1.0, 1.0])


def test_shots__rows_are_discriminants_in_units_of_the_head() -> None:
    data = small_data()
    shots = Shots.of(data)
    rows = shots.few_rows().numpy() - shots.targets.mean(dim=0).numpy()
    few, means = data.classes.few, data.means
    centered = data.features - means[data.labels]
    covariance = centered.T @ centered / len(centered)
    ridge = SHRINKAGE * np.trace(covariance) / 8
    center = means.mean(axis=0)
    expected = np.linalg.solve(covariance + ridge * np.eye(8), (means[few] - center).T).T
    assert rows[:, :-1] == pytest.approx(shots.scale * expected, rel=1e-3, abs=1e-5)
    middle = (means[few] + center) / 2
    # Halfway between class and centre, the discriminant is zero.
    assert (rows[:, :-1] * middle).sum(1) + rows[:, -1] == pytest.approx(0, abs=1e-4)


def test_shots__task_loss_of_the_true_rows_is_the_base_heads() -> None:
    data = small_data()
    shots, places = Shots.of(data), np.array([0, 3])
    found = shots.task_loss(shots.targets[places], places, np.random.default_rng(0))
    rng, base = np.random.default_rng(0), data.classes.base
    index = np.concatenate([shots.draw(int(base[p]), 4, rng) for p in places])
    logits = torch.from_numpy(data.head.logits(data.features[index])[:, base])
    expected = functional.cross_entropy(logits, torch.from_numpy(np.repeat(places, 4)))
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
