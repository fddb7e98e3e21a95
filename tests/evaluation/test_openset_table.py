from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from alphafix.metrics.predictions import read_logits
from alphafix.openset.figures import FIGURES, OpenSetFigures
from alphafix.openset.odin import softmax_scores
from alphafix.openset.samples import OpenSamples
from alphafix.openset.table import (
    Answers,
    detection_row,
    openmax_answers,
    recognition_row,
    softmax_answers,
)
from alphafix.report.cells import number
from alphafix.values.classes import ClassTable

CLASSES = ClassTable(("many", "medium", "few"), np.array([200, 50, 5]))


def answers(predicted: list[int], accepted: list[int]) -> Answers:
    return Answers(np.array(predicted, dtype=np.int64), np.array(accepted, dtype=np.bool_))


def test_detection_row__papers_max_softmax_figure() -> None:
    # 43.6% in OLTR's Table 2 is ODIN's definition with 82.2% of unknown samples accepted.
    known = np.arange(1000) / 1000
    unknown = np.r_[np.full(822, 0.0), np.full(178, 2.0)]
    found = detection_row("max-softmax", known, unknown)
    assert found.detection_error == pytest.approx(43.6, abs=0.01)


def test_detection_row__auroc_is_high_where_unknown_scores_are_higher() -> None:
    found = detection_row("m", np.array([0.1, 0.2, 0.7]), np.array([0.6, 0.9]))
    assert found.auroc == pytest.approx(100 * 5 / 6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_detection_row__as_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    known, unknown = np.round(rng.random(40), 1), np.round(rng.random(20) + 0.3, 1)
    found = detection_row("m", known, unknown)
    truth, scores = np.repeat([0, 1], [40, 20]), np.r_[known, unknown]
    assert found.auroc == pytest.approx(100 * roc_auc_score(truth, scores))
    errors = [
        ((known > t).mean() + (unknown <= t).mean()) / 2
        for t in np.unique(scores)
        if (known <= t).mean() >= 0.95 - 1e-12
    ]
    assert found.detection_error == pytest.approx(100 * errors[0])


def test_detection_row__nothing_unknown_is_not_available() -> None:
    found = detection_row("m", np.array([0.1]), np.array([]))
    assert (found.detection_error, found.auroc) == (None, None)
    assert number(found.auroc) == number(found.detection_error) == "n/a"


def test_recognition_row__hand_computed() -> None:
    labels = np.array([0, 0, 1, 1, 2, 2])
    known = answers([0, 0, 1, 0, 2, 1], [1, 0, 1, 1, 0, 1])
    unknown = answers([0, 1, 2, 2], [1, 0, 0, 0])
    found = recognition_row("m", CLASSES, labels, known, unknown)
    assert found.closed == pytest.approx({"many": 100, "medium": 50, "few": 50, "overall": 200 / 3})
    assert found.open == pytest.approx({"many": 50, "medium": 50, "few": 0, "overall": 100 / 3})
    assert found.f_measure == pytest.approx(100 * 4 / (4 + 4 + 1))
    assert found.f_measure_old == pytest.approx(100 * 4 / (4 + 2 + 1))
    assert found.known_accepted == pytest.approx(200 / 3)
    assert found.unknown_accepted == 25


def test_recognition_row__split_without_samples_is_not_available() -> None:
    known = answers([0, 1], [1, 1])
    found = recognition_row("m", CLASSES, np.array([0, 1]), known, answers([0], [1]))
    assert found.closed["few"] is None
    assert found.open["few"] is None
    assert number(found.closed["few"]) == number(found.open["few"]) == "n/a"
    assert "NaN" not in json.dumps(found.to_dict())


def test_softmax_answers__are_the_figures_of_evaluate() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    logits, others = (rng.normal(size=(n, 3)).astype(np.float32) for n in (60, 30))
    row = recognition_row(
        "m", CLASSES, labels, softmax_answers(logits, 0.5), softmax_answers(others, 0.5)
    )
    predicted, _, confidence = read_logits(logits, labels)
    _, _, unknown = read_logits(others, np.full(30, -1))
    samples = OpenSamples(
        np.r_[confidence, unknown],
        np.r_[predicted == labels, np.zeros(30, dtype=np.bool_)],
        np.arange(90) < 60,
    )
    figures = dict(
        zip(FIGURES, OpenSetFigures(samples, 0.5).vector(np.arange(90)).tolist(), strict=False)
    )
    assert row.f_measure == pytest.approx(figures["f_measure"])
    assert row.f_measure_old == pytest.approx(figures["f_measure_old"])
    detected = detection_row("m", softmax_scores(logits), softmax_scores(others))
    assert detected.auroc == pytest.approx(figures["auroc"], abs=1e-4)
    assert detected.detection_error == pytest.approx(figures["detection_error"], abs=1e-4)


def test_openmax_answers__rejects_unknown_and_improbable() -> None:
    probabilities = np.array([[0.5, 0.1, 0.4], [0.3, 0.3, 0.4], [0.05, 0.04, 0.01]])
    found = openmax_answers(probabilities, threshold=0.1)
    assert found.accepted.tolist() == [True, False, False]
    assert found.predicted.tolist() == [0, 0, 0]
