from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from alphafix.errors import InputError
from alphafix.metrics.accuracy import COLUMNS
from alphafix.metrics.bootstrap import Resampling
from alphafix.metrics.limits import Limits
from alphafix.metrics.many import accuracies, bootstrap_accuracies
from alphafix.rivals import RIVALS, fit
from alphafix.rivals.auto import fit_auto
from alphafix.rivals.data import FitData, Fitted, Offered, choose, choose_method
from tests.rivals.problems import small_data

SIMPLE = ("few-bias", "tau-norm", "logit-adjustment", "ncm-plain")


@pytest.fixture(scope="module")
def data() -> FitData:
    return small_data(drop=3.0)


def gain(found: Fitted, data: FitData) -> tuple[float, float]:
    few = (found.val["few"] or 0) - (data.base["few"] or 0)
    return few, (data.base["overall"] or 0) - (found.val["overall"] or 0)


def test_choose__largest_few_gain_within_the_limit(data: FitData) -> None:
    outcome = choose(data, [RIVALS[name].offer(data) for name in SIMPLE])
    found = outcome.fitted
    assert found is not None
    each = {
        name: choose(data, [RIVALS[name].offer(data)]).choice.found
        for name in SIMPLE
        if gain(fit(name, data), data)[1] <= 3.0 + 1e-9
    }
    best = max((one for one in each.values() if one is not None), key=lambda one: one.key)
    assert gain(found, data)[0] == pytest.approx(best.few_gain)
    assert gain(found, data)[1] <= 3.0 + 1e-9
    assert outcome.choice.promise is not None
    assert outcome.choice.promise.few_gain == pytest.approx(gain(found, data)[0])
    assert outcome.choice.promise.overall_drop == pytest.approx(gain(found, data)[1])


@pytest.mark.parametrize("swapped", [False, True])
def test_choose_method__the_likeliest_of_those_that_gain_about_as_much(
    data: FitData, swapped: bool
) -> None:
    """Of two methods with the same gain the one with the better scores; a poor one never."""
    truth = RIVALS["few-bias"].offer(data)
    rng = np.random.default_rng(0)

    def named(name: str, noise: float, *, gains: bool = True) -> Offered:
        def build(place: int, offset: float) -> Fitted:
            made = truth.build(place, offset)
            shift = noise * rng.standard_normal(len(data.classes)).astype(np.float32)
            return replace(made, method=name, logits=lambda x: made.logits(x) + shift)

        paths = truth.paths if gains else [replace(truth.paths[0], free=False)]
        return Offered(name, paths, build)

    offers = [named("lucky", 3.0), named("likely", 0.0), named("nothing", 0.0, gains=False)]
    outcome = choose_method(data, offers[::-1] if swapped else offers)
    assert outcome.fitted is not None
    assert outcome.fitted.method == "likely"
    assert set(outcome.by_method()) == {"lucky", "likely", "nothing"}


@pytest.mark.parametrize("gains", [True, False])
def test_choose_method__lda_unless_another_surely_gains_more(data: FitData, gains: bool) -> None:
    """Equal gains are lda's, though another is likelier; and not where lda gains nothing."""
    truth = RIVALS["few-bias"].offer(data)
    noise = 3 * np.random.default_rng(0).standard_normal(len(data.classes)).astype(np.float32)

    def unlikely(place: int, offset: float) -> Fitted:
        made = truth.build(place, offset)
        return replace(made, method="lda", logits=lambda x: made.logits(x) + noise)

    paths = truth.paths if gains else [replace(truth.paths[0], free=False)]
    outcome = choose_method(data, [truth, Offered("lda", paths, unlikely)])
    assert outcome.fitted is not None
    assert outcome.fitted.method == ("lda" if gains else "few-bias")


def test_choose__nothing_better_is_the_base_model(data: FitData) -> None:
    def wrong(features: np.ndarray) -> np.ndarray:
        return -data.head.logits(features)

    for scorer in (wrong, data.head.logits):
        one = Offered.of(data, [Fitted("one", scorer, {}, data.validate(scorer))])
        outcome = choose(data, [one])
        assert outcome.fitted is None
        assert outcome.safest.method == "one"
        assert outcome.choice.kept == (scorer is not wrong)


def test_fit_auto__correction_says_what_it_is_and_how_sure(data: FitData) -> None:
    correction = fit_auto(data, methods=SIMPLE)
    report = correction.chosen.to_dict()["auto"]
    assert report["method"] == correction.method
    assert "at most 3 points lost overall on validation itself" in report["text"]
    assert {one["method"] for one in report["tried"]} == set(SIMPLE)
    (chosen,) = (one for one in report["tried"] if one["method"] == report["method"])
    assert report["few_gain"] == pytest.approx(chosen["few_gain"])
    assert report["few_gain_interval"][0] <= report["few_gain"] <= report["few_gain_interval"][1]


def test_fit_auto__too_few_samples_for_a_promise_give_the_base_model() -> None:
    data = replace(small_data(), limits=Limits(0.0))
    keep = np.flatnonzero(np.arange(len(data.val_labels)) % 10 < 2)  # two of each class
    small = replace(data, val=type(data.val).of(data.val_features[keep], data.val_labels[keep]))
    correction = fit_auto(small, methods=("few-bias", "mean-directions"))
    assert correction.is_base
    assert (correction.apply(data.head).weight == data.head.weight).all()
    promise = correction.chosen.promise
    assert promise is not None
    assert promise["few_gain"] == 0 < promise["given_up"]
    assert promise["samples_a_class"] > 2
    assert "takes about" in promise["text"]


def test_fit_auto__takes_other_methods_too_and_they_win_a_tie(data: FitData) -> None:
    few_bias = RIVALS["few-bias"].offer(data)
    own = Offered("own", few_bias.paths, lambda *at: replace(few_bias.build(*at), method="own"))
    correction = fit_auto(data, extra=[own], methods=("few-bias",))
    assert correction.chosen.to_dict()["auto"]["method"] == "own"


def test_fit_auto__refuses_what_is_not_linear(data: FitData) -> None:
    with pytest.raises(InputError, match="not a linear head"):
        fit_auto(data, methods=("ncm-l2",))


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
