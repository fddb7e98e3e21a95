"""The likelihood that chooses settings: against SciPy, and what it must not judge."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from alphafix.rivals.data import FitData
from alphafix.rivals.discriminant import Family
from alphafix.rivals.likelihood import SAMPLES, TEMPERATURES, least_loss, terms
from alphafix.values.arrays import FloatArray, IntArray
from tests.rivals.problems import small_data

FEW = 3


def drawn(samples: int = 200, classes: int = 9, seed: int = 0) -> tuple[FloatArray, IntArray]:
    """Scores that say something of the classes, of which the first `FEW` are few-split."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, samples)
    scores = 3 * rng.standard_normal((samples, classes))
    scores[np.arange(samples), labels] += 3
    return scores.astype(np.float32), labels


def loss_at(scores: FloatArray, labels: IntArray, factor: float, offset: float) -> float:
    """Of few-split and base samples alike, plainly."""
    moved = factor * scores.astype(np.float64)
    moved[:, :FEW] += offset
    each = -log_softmax(moved, axis=1)[np.arange(len(labels)), labels]
    return float(np.mean([each[labels < FEW].mean(), each[labels >= FEW].mean()]))


@pytest.mark.parametrize("seed", range(3))
def test_least_loss__is_the_optimum_over_offset_and_temperature(seed: int) -> None:
    scores, labels = drawn(seed=seed)
    best = [
        minimize_scalar(lambda t, f=factor: loss_at(scores, labels, f, t), bracket=(-5, 5)).fun
        for factor in TEMPERATURES
    ]
    assert least_loss(terms(scores, FEW, labels), labels < FEW) == pytest.approx(min(best))


def test_least_loss__neither_scale_nor_offset_counts() -> None:
    scores, labels = drawn()
    moved = scores.copy()
    moved[:, :FEW] += 7
    found = [
        least_loss(terms(some, FEW, labels), labels < FEW)
        for some in (scores, moved, np.float32(0.5) * scores)
    ]
    assert found[1] == pytest.approx(found[0], abs=1e-4)
    # Within the factors that are tried.
    assert found[2] == pytest.approx(found[0], abs=1e-4)


@pytest.mark.parametrize("few", [0.0, 1.0])
def test_least_loss__samples_of_one_side_alone(few: float) -> None:
    scores, labels = drawn()
    mine = (labels < FEW) == bool(few)
    found = least_loss(terms(scores[mine], FEW, labels[mine]), labels[mine] < FEW)
    each = [
        -log_softmax(f * scores[mine].astype(np.float64), axis=1)[
            np.arange(mine.sum()), labels[mine]
        ]
        for f in TEMPERATURES
    ]
    assert found == pytest.approx(min(one.mean() for one in each), rel=1e-4)


def family(data: FitData) -> Family:
    strengths = {0.3: (0.0, 0.5, 2.0), 1.0: (0.5,)}
    return Family.of("lda", data, strengths, (0.0, 1.0), few_only=False)


@pytest.mark.parametrize("stride", [1, 2])
def test_likeliest__is_the_setting_of_the_least_loss(
    stride: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = small_data(scale=2.0)
    samples = -(-len(data.val_labels) // stride)
    monkeypatch.setattr("alphafix.rivals.discriminant.SAMPLES", samples)
    whole = family(data)
    best = whole.settings[whole.likeliest()]
    x, labels = data.val_features[::stride], data.val_labels[::stride]
    classes = data.classes
    order = np.concatenate([classes.few, classes.base])
    own = np.argsort(order)[labels]
    losses = []
    for place in range(len(whole.settings)):
        scores = whole.build(place, 0.0).logits(x)[:, order]
        losses.append(
            least_loss(terms(scores, len(classes.few), own), np.isin(labels, classes.few))
        )
    assert best == whole.settings[int(np.argmin(losses))]
    assert SAMPLES >= 1000


def test_likeliest__the_directions_alone_where_the_head_is_noise() -> None:
    data = small_data()
    noise = np.random.default_rng(99).standard_normal(data.head.weight.shape).astype(np.float32)
    useless = replace(data, head=replace(data.head, weight=noise))
    families = [family(one) for one in (data, useless)]
    strengths = [one.settings[one.likeliest()].strength for one in families]
    assert strengths[1] > strengths[0]
