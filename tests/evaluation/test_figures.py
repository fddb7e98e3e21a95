from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, top_k_accuracy_score

from alphafix.features.store import FeatureStore
from alphafix.metrics.accuracy import COLUMNS, class_mean_accuracy, tier_accuracy
from alphafix.metrics.alike import Alike
from alphafix.metrics.bootstrap import Resampling, bootstrap, interval, stratified_draws
from alphafix.metrics.figures import MEASURES, TIER_ROWS, Labelled, TierFigures
from alphafix.metrics.mcnemar import mcnemar
from alphafix.metrics.predictions import Predictions, predict, predict_pair, read_logits
from alphafix.values.classes import ClassTable
from tests.common import make_problem, write_run
from tests.evaluation.problems import few_bias_correction

# One few, one medium and two many classes; 2, 4, 3 and 1 samples.
CLASSES = ClassTable(("a", "b", "c", "d"), np.array([5, 50, 500, 900]))
LABELS = np.array([0, 0, 1, 1, 1, 1, 2, 2, 2, 3])
PREDICTED = np.array([0, 1, 1, 1, 1, 2, 2, 2, 2, 0])


def hand_made(confidence: float = 0.55) -> Predictions:
    top5 = np.ones(10, dtype=bool)
    return Predictions(PREDICTED, top5, np.full(10, confidence, dtype=np.float32))


def table(predictions: Predictions, groups: Alike | None = None) -> dict[str, dict[str, float]]:
    figures = TierFigures(Labelled.of(CLASSES, LABELS), predictions, groups)
    rows = figures.table(np.arange(10))
    names = (*MEASURES, "grouped")
    return {
        name: dict(zip(TIER_ROWS, row.tolist(), strict=True))
        for name, row in zip(names, rows, strict=False)
    }


def test_figures__hand_computed_shares_and_means() -> None:
    found = table(hand_made())
    assert found["top1"] == pytest.approx(
        {"few": 50, "medium": 75, "many": 75, "base": 75, "overall": 70}
    )
    # Class accuracies: 1/2, 3/4, 1, 0.
    assert found["macro"] == pytest.approx(
        {"few": 50, "medium": 75, "many": 50, "base": 175 / 3, "overall": 56.25}
    )
    # F1 = 2 tp / (samples + predicted): 2/4, 6/8, 6/7, 0.
    assert found["macro_f1"]["overall"] == pytest.approx(100 * (0.5 + 0.75 + 6 / 7 + 0) / 4)
    assert found["macro_f1"]["many"] == pytest.approx(100 * (6 / 7) / 2)


def test_figures__calibration_error_by_hand() -> None:
    # All samples fall into one bin, so the error is |confidence - accuracy| of each split.
    found = table(hand_made(confidence=0.55))["ece"]
    expected = {"few": 5, "medium": 20, "many": 20, "base": 20, "overall": 15}
    assert found == pytest.approx(expected, abs=1e-4)


def test_figures__calibration_bins_do_not_cancel() -> None:
    # Two bins, one too sure and one not sure enough by the same amount.
    confidence = np.where(np.arange(10) < 5, 0.9, 0.3).astype(np.float32)
    correct = PREDICTED == LABELS
    expected = sum(
        abs(confidence[part].sum() - correct[part].sum()) for part in (slice(0, 5), slice(5, 10))
    )
    found = table(Predictions(PREDICTED, np.ones(10, dtype=bool), confidence))["ece"]
    assert found["overall"] == pytest.approx(10 * expected, abs=1e-4)


def test_figures__groups_count_a_confusion_inside_as_right() -> None:
    together = (np.array([0, 1]), np.array([0, 0]))
    groups = Alike.of_marks(together, together, 4)
    found = table(hand_made(), groups)["grouped"]
    assert found["few"] == 100  # a taken for b
    assert found["many"] == 75  # d taken for a is outside


def test_figures__macro_f1_as_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels = np.sort(rng.integers(0, 4, size=200))
    predicted = rng.integers(0, 4, size=200)
    predictions = Predictions(predicted, np.ones(200, bool), np.full(200, 0.5, np.float32))
    figures = TierFigures(Labelled.of(CLASSES, labels), predictions)
    found = figures.table(np.arange(200))[MEASURES.index("macro_f1")]
    assert found[-1] == pytest.approx(100 * f1_score(labels, predicted, average="macro"))


def test_figures__empty_split_is_nan_not_zero() -> None:
    classes = ClassTable(("a", "b"), np.array([5, 500]))
    labels = np.array([0, 1])
    predictions = Predictions(labels, np.ones(2, bool), np.full(2, 0.9, np.float32))
    rows = TierFigures(Labelled.of(classes, labels), predictions).table(np.arange(2))
    assert np.isnan(rows[:, TIER_ROWS.index("medium")]).all()
    assert not np.isnan(rows[:, [0, 2, 3, 4]]).any()


def test_summaries__worst_class_and_harmonic_mean() -> None:
    figures = TierFigures(Labelled.of(CLASSES, LABELS), hand_made())
    index = np.arange(10)
    worst, harmonic = figures.summaries(index, figures.table(index))
    assert worst == 0
    assert harmonic == pytest.approx(3 / (1 / 50 + 1 / 75 + 1 / 75))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(6, 12), st.booleans())
def test_read_logits__top5_as_scikit_learn_and_ties_to_the_lower_class(
    seed: int, num_classes: int, ties: bool
) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(20, num_classes)).astype(np.float32)
    if ties:
        logits = np.round(logits)
    labels = rng.integers(0, num_classes, size=20)
    predicted, top5, confidence = read_logits(logits, labels)
    order = np.argsort(-logits, axis=1, kind="stable")
    assert (predicted == order[:, 0]).all()
    assert (top5 == (order[:, :5] == labels[:, None]).any(axis=1)).all()
    if not ties:
        score = top_k_accuracy_score(labels, logits, k=5, labels=np.arange(num_classes))
        assert top5.mean() == pytest.approx(score)
    softmax = np.exp(logits.astype(np.float64))
    softmax /= softmax.sum(axis=1, keepdims=True)
    assert confidence == pytest.approx(softmax.max(axis=1), rel=1e-5)


def test_predict_pair__same_as_applying_the_correction(tmp_path: Path) -> None:
    problem = make_problem(num_classes=16, spread=1.5)
    run = write_run(tmp_path / "run", problem)
    store = FeatureStore.open(run.features("test"))
    correction = few_bias_correction(problem)
    both = predict_pair(store, problem.head, correction)
    before, after = both.before, both.after
    assert (both.labels == store.labels).all()
    fixed = correction.apply(problem.head)
    expected = predict(store, [problem.head.logits, fixed.logits])
    for found, wanted in zip((before, after), expected, strict=True):
        assert (found.predicted == wanted.predicted).all()
        assert (found.top5 == wanted.top5).all()
        assert found.confidence == pytest.approx(wanted.confidence, rel=1e-5)
    assert (before.predicted != after.predicted).any()


def test_mcnemar__hand_computed() -> None:
    before = np.array([1, 1, 1, 0, 0, 0, 0, 0, 0], dtype=bool)
    after = np.array([1, 1, 0, 1, 1, 1, 1, 1, 1], dtype=bool)
    found = mcnemar(before, after)
    assert (found.gained, found.lost) == (6, 1)
    # 2 * (C(7,0) + C(7,1)) / 2^7
    assert found.p == pytest.approx(2 * 8 / 128)
    assert mcnemar(before, before).p == 1.0


def test_bootstrap__keeps_class_sizes_and_repeats_with_its_seed() -> None:
    labels = np.array([2, 0, 1, 1, 2, 2])
    draws = list(stratified_draws(labels, Resampling(20, seed=3)))
    for index in draws:
        assert (np.bincount(labels[index]) == [1, 2, 3]).all()
    again = list(stratified_draws(labels, Resampling(20, seed=3)))
    assert all((a == b).all() for a, b in zip(draws, again, strict=True))
    others = stratified_draws(labels, Resampling(20, seed=4))
    assert any((a != b).any() for a, b in zip(draws, others, strict=True))


def test_bootstrap__interval_of_a_share_is_the_binomial_one() -> None:
    correct = np.zeros(400)
    correct[:100] = 1
    values = bootstrap(
        lambda index: np.array([correct[index].mean()]), np.zeros(400, int), Resampling(2000)
    )
    low, high = interval(values)
    deviation = math.sqrt(0.25 * 0.75 / 400)
    assert float(low[0]) == pytest.approx(0.25 - 1.96 * deviation, abs=0.006)
    assert float(high[0]) == pytest.approx(0.25 + 1.96 * deviation, abs=0.006)


def test_class_mean_accuracy__counts_every_class_the_same() -> None:
    """Three samples of one class, one of the other: 3/4 of the samples, 1/2 of the classes."""
    classes = ClassTable(("a", "b"), np.array([200, 200]))
    right, labels = np.array([True, True, True, False]), np.array([0, 0, 0, 1])
    assert tier_accuracy(right, labels, classes)["many"] == 75
    found = class_mean_accuracy(right, labels, classes)
    assert found["many"] == found["overall"] == 50
    assert found["few"] is None


def test_tier_accuracy__is_the_top1_of_the_table() -> None:
    found = tier_accuracy(PREDICTED == LABELS, LABELS, CLASSES)
    top1 = table(hand_made())["top1"]
    assert found == {name: top1[name] for name in COLUMNS}
    alone = tier_accuracy(np.array([True]), np.array([1]), CLASSES)
    assert alone == {"few": None, "medium": 100, "many": None, "overall": 100}
