"""What holds for every method, through the one interface."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from alphafix.errors import InputError
from alphafix.metrics.accuracy import tier_accuracy
from alphafix.rivals import LINEAR_METHODS, METHODS, NOT_LINEAR, fit, fit_method
from alphafix.rivals.material import Fitted, Material, predictions
from tests.rivals.problems import small_material

# Enough to have trained, little enough to test.
SHORT: dict[str, dict[str, Any]] = {
    "fslwf": {"steps": 20},
    "model-regression": {"steps": 30},
    "metamodelnet": {"steps": 10},
}


def fit_short(name: str, material: Material) -> Fitted:
    import importlib

    module, arguments = METHODS[name]
    found: Fitted = importlib.import_module(f"alphafix.rivals.{module}").fit(
        material, **arguments, **SHORT.get(name, {})
    )
    return found


@pytest.fixture(scope="module")
def material() -> Material:
    return small_material(scale=2.0)


@pytest.mark.parametrize("name", METHODS)
def test_method__one_interface(name: str, material: Material) -> None:
    found = fit_short(name, material)
    logits = found.logits(material.val_features)
    assert found.method == name
    assert logits.shape == (len(material.val_labels), 12)
    assert np.isfinite(logits).all()
    predicted = predictions(found.logits, material.val_features)
    correct = predicted == material.val_labels
    assert found.val == tier_accuracy(correct, material.val_labels, material.classes)
    assert (found.correction is None) == (name in NOT_LINEAR)
    if found.correction is not None:
        fixed = found.correction.apply(material.head).logits(material.val_features)
        assert fixed == pytest.approx(logits)
        assert found.correction.method == name
        assert found.correction.chosen["val"] == dict(found.val)


@pytest.mark.parametrize("name", ["crt", "disalign", "fslwf", "model-regression", "metamodelnet"])
def test_method__the_same_again_from_its_seed(name: str, material: Material) -> None:
    first, second = (fit_short(name, material).logits(material.val_features) for _ in range(2))
    assert (first == second).all()


@pytest.mark.parametrize("name", ["few-bias", "mean-directions-few", "model-regression"])
def test_method__base_rows_stay_untouched(name: str, material: Material) -> None:
    correction = fit_short(name, material).correction
    assert correction is not None
    assert correction.classes.tolist() == material.classes.few.tolist()


@pytest.mark.parametrize("name", ["few-bias", "logit-adjustment", "mean-directions"])
def test_method__keeps_the_drop_that_is_allowed(name: str) -> None:
    gains = []
    for drop in (0.0, 2.0, 50.0):
        material = small_material(drop=drop)
        found = fit(name, material)
        assert material.rule.drop(found.val) <= drop
        gains.append((found.val["few"] or 0) - (material.rule.base["few"] or 0))
    assert gains == sorted(gains)
    assert gains[-1] > 0


def test_method__a_head_without_bias_gets_one_only_where_needed() -> None:
    material = small_material(bias=False)
    tau, few_bias = (fit_method(name, material) for name in ("tau-norm", "few-bias"))
    assert tau.biases is None
    assert few_bias.biases is not None


def test_fit_method__refuses_what_is_not_linear(material: Material) -> None:
    with pytest.raises(InputError, match="not a linear head"):
        fit_method("ncm-l2", material)
    with pytest.raises(InputError, match="few-bias, tau-norm"):
        fit_method("none", material)
    assert set(LINEAR_METHODS) == set(METHODS) - NOT_LINEAR
