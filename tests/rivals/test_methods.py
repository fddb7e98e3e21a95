"""What holds for every method, through the one interface."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from alphafix.errors import InputError
from alphafix.metrics.accuracy import tier_accuracy
from alphafix.rivals import AUTO_METHODS, COMPARED, LINEAR_METHODS, RIVALS, fit, fit_method
from alphafix.rivals.data import FitData, Fitted, Trainings, predictions
from tests.rivals.problems import small_data

# Enough to have trained, little enough to test.
SHORT: dict[str, dict[str, Any]] = {
    "fslwf": {"steps": 20},
    "model-regression": {"steps": 30},
    "model-regression-lda": {"steps": 30},
    "metamodelnet": {"steps": 10},
    "metamodelnet-lda": {"steps": 10},
    "metamodelnet-plain": {"steps": 10},
}


NOT_LINEAR = {"ncm-l2", "ncm-cl2", "disalign"}


def fit_short(name: str, data: FitData) -> Fitted:
    return RIVALS[name].fit(data, **SHORT.get(name, {}))


@pytest.fixture(scope="module")
def data() -> FitData:
    return small_data(scale=2.0)


@pytest.mark.parametrize("name", RIVALS)
def test_method__one_interface(name: str, data: FitData) -> None:
    found = fit_short(name, data)
    logits = found.logits(data.val_features)
    assert found.method == name
    assert logits.shape == (len(data.val_labels), 12)
    assert np.isfinite(logits).all()
    predicted = predictions(found.logits, data.val_features)
    correct = predicted == data.val_labels
    assert found.val == tier_accuracy(correct, data.val_labels, data.classes)
    assert (found.correction is None) == (name in NOT_LINEAR)
    if found.correction is not None:
        fixed = found.correction.apply(data.head).logits(data.val_features)
        assert fixed == pytest.approx(logits)
        assert found.correction.method == name
        assert found.correction.chosen.to_dict()["val"] == dict(found.val)


@pytest.mark.parametrize("name", ["crt", "disalign", "fslwf", "model-regression", "metamodelnet"])
def test_method__the_same_again_from_its_seed(name: str, data: FitData) -> None:
    first, second = (fit_short(name, data).logits(data.val_features) for _ in range(2))
    assert (first == second).all()


@pytest.mark.parametrize("name", ["few-bias", "mean-directions-few", "metamodelnet"])
def test_method__base_rows_stay_untouched(name: str, data: FitData) -> None:
    correction = fit_short(name, data).correction
    assert correction is not None
    assert correction.classes.tolist() == data.classes.few.tolist()


@pytest.mark.parametrize("name", ["few-bias", "logit-adjustment", "mean-directions"])
def test_method__keeps_the_drop_that_is_allowed(name: str) -> None:
    gains = []
    for drop in (0.0, 2.0, 50.0):
        data = small_data(drop=drop)
        found = fit(name, data)
        assert (data.base["overall"] or 0) - (found.val["overall"] or 0) <= drop + 1e-9
        gains.append((found.val["few"] or 0) - (data.base["few"] or 0))
    assert gains == sorted(gains)
    assert gains[-1] > 0


def test_method__a_head_without_bias_gets_one_only_where_needed() -> None:
    data = small_data(bias=False)
    tau, few_bias = (fit_method(name, data) for name in ("tau-norm", "few-bias"))
    assert tau.biases is None
    assert few_bias.biases is not None


def test_fit_method__refuses_what_is_not_linear(data: FitData) -> None:
    with pytest.raises(InputError, match="not a linear head"):
        fit_method("ncm-l2", data)
    with pytest.raises(InputError, match="few-bias, tau-norm"):
        fit_method("none", data)
    assert set(LINEAR_METHODS) == set(RIVALS) - NOT_LINEAR


def test_compared__is_all_but_what_gains_nothing_on_validation() -> None:
    forms = {"model-regression", "model-regression-lda"}
    forms |= {"metamodelnet", "metamodelnet-lda", "metamodelnet-plain"}
    assert set(RIVALS) - set(COMPARED) == forms
    assert set(AUTO_METHODS) == set(COMPARED) & set(LINEAR_METHODS)


@pytest.mark.parametrize("name", [name for name, rival in RIVALS.items() if rival.trains])
def test_trainings__other_validation_chooses_among_the_same_heads(name: str, data: FitData) -> None:
    trainings = Trainings()
    fit_short(name, replace(data, trainings=trainings))
    other = replace(data, val=data.train)
    kept, alone = (fit_short(name, one) for one in (replace(other, trainings=trainings), other))
    assert kept.settings == alone.settings
    assert (kept.logits(data.val_features) == alone.logits(data.val_features)).all()


def test_trainings__train_once_for_the_same_samples_head_and_seed(data: FitData) -> None:
    trainings, trained = Trainings(), []

    def train() -> int:
        trained.append(1)
        return len(trained)

    first = replace(data, trainings=trainings)
    assert [one.once(("a", 1), train) for one in (first, replace(first, val=data.train))] == [1, 1]
    assert first.once(("a", 2), train) == 2
    assert replace(first, seed=1).once(("a", 1), train) == 3
    assert replace(first, head=replace(data.head)).once(("a", 1), train) == 4
    assert data.once(("a", 1), train) == 5  # nothing is kept unless it is asked for
