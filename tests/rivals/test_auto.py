from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from alphafix.errors import InputError
from alphafix.metrics.accuracy import COLUMNS
from alphafix.metrics.bootstrap import Resampling
from alphafix.metrics.many import accuracies, bootstrap_accuracies
from alphafix.rivals import fit
from alphafix.rivals.alphanet import offered
from alphafix.rivals.auto import choose, fit_auto
from alphafix.rivals.data import FitData, Fitted
from alphafix.values.correction import Correction
from tests.rivals.problems import small_data

SIMPLE = ("few-bias", "tau-norm", "logit-adjustment", "ncm-plain")


@pytest.fixture(scope="module")
def data() -> FitData:
    return small_data(drop=3.0)


def gain(found: Fitted, data: FitData) -> tuple[float, float]:
    few = (found.val["few"] or 0) - (data.rule.base["few"] or 0)
    return few, data.rule.drop(found.val)


def test_choose__largest_few_gain_within_the_limit(data: FitData) -> None:
    offered = [fit(name, data) for name in SIMPLE]
    found, choice = choose(data, offered, draws=100)
    figures = {one.method: gain(one, data) for one in offered}
    within = {name: few for name, (few, drop) in figures.items() if drop <= 3.0}
    assert choice.method == found.method == max(within, key=lambda name: within[name])
    assert choice.few_gain == pytest.approx(figures[found.method][0])
    assert choice.overall_drop == pytest.approx(figures[found.method][1])
    assert choice.few_gain_interval[0] <= choice.few_gain <= choice.few_gain_interval[1]
    assert 0 < choice.chance_best <= 1
    assert 0 < choice.chance_within <= 1
    assert len(choice.tried) == len(SIMPLE)


def test_choose__alone_and_surely(data: FitData) -> None:
    offered = [Fitted("same", data.head.logits, {}, data.rule.base)]
    _, choice = choose(data, offered, draws=100)
    assert choice.few_gain == choice.overall_drop == 0
    assert choice.chance_best == choice.chance_within == 1


def test_choose__nothing_within_the_limit(data: FitData) -> None:
    def wrong(features: np.ndarray) -> np.ndarray:
        return -data.head.logits(features)

    with pytest.raises(InputError, match="max_overall_drop"):
        choose(data, [Fitted("wrong", wrong, {}, data.validate(wrong))], draws=100)


def test_fit_auto__correction_says_what_it_is_and_how_sure(data: FitData) -> None:
    correction = fit_auto(data, methods=SIMPLE)
    report = correction.chosen.to_dict()["auto"]
    assert isinstance(correction, Correction)
    assert report["method"] == correction.method
    assert "bootstrap draws" in report["text"]
    assert {one["method"] for one in report["tried"]} == set(SIMPLE)


def test_fit_auto__takes_other_corrections_too(data: FitData) -> None:
    few_bias = fit("few-bias", data)
    assert few_bias.correction is not None
    own = offered(replace(few_bias.correction, method="own"), data)
    assert own.val == few_bias.val
    correction = fit_auto(data, extra=[own], methods=("tau-norm", "few-bias"))
    assert correction.chosen.to_dict()["auto"]["method"] == "own"  # the first of equals


def test_many__agrees_with_single_bootstraps_and_averages_to_the_point() -> None:
    data = small_data()
    labels, classes = data.val_labels, data.classes
    rng = np.random.default_rng(0)
    correct = rng.random((len(labels), 3)) < [0.2, 0.5, 0.9]
    point = accuracies(classes, labels, correct)
    few = np.isin(labels, classes.few)
    assert point[:, COLUMNS.index("few")] == pytest.approx(100 * correct[few].mean(axis=0))
    assert point[:, COLUMNS.index("overall")] == pytest.approx(100 * correct.mean(axis=0))
    drawn = bootstrap_accuracies(classes, labels, correct, Resampling(400))
    assert drawn.shape == (400, 3, 4)
    assert drawn.mean(axis=0) == pytest.approx(point, abs=1.5)
