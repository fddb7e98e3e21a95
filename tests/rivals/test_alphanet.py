"""AlphaNet in the form of the rivals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alphafix.errors import InputError
from alphafix.features.store import FeatureStore
from alphafix.rivals import alphanet, fit
from alphafix.rivals.material import Material
from tests.common import make_problem, write_run


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[FeatureStore, FeatureStore]:
    folder: Path = tmp_path_factory.mktemp("alphanet") / "run"
    run = write_run(folder, make_problem(num_classes=12, spread=1.2))
    return FeatureStore.open(run.features("train")), FeatureStore.open(run.features("val"))


@pytest.fixture(scope="module")
def material(stores: tuple[FeatureStore, FeatureStore]) -> Material:
    problem = make_problem(num_classes=12, spread=1.2)
    return Material.of(*stores, problem.head, problem.classes, max_overall_drop=5.0)


def test_fitted__rows_are_the_mean_of_the_seeds(
    stores: tuple[FeatureStore, FeatureStore], material: Material
) -> None:
    trials = alphanet.train_trials(*stores, material, rhos=[0.5, 1.0], k=3, seeds=[0, 1])
    found = alphanet.fitted("alphanet", material, trials)
    assert [one.method for one in found] == ["alphanet rho 0.5", "alphanet rho 1"]
    few = material.classes.few
    singles = [
        trials.rows(i, material.head, few)
        for i, record in enumerate(trials.settings)
        if record["rho"] == 0.5
    ]
    correction = found[0].correction
    assert correction is not None
    assert correction.classes.tolist() == few.tolist()
    assert correction.rows == pytest.approx(np.mean(singles, axis=0), abs=1e-5)


def test_train_trials__random_neighbours_differ_by_trial(
    stores: tuple[FeatureStore, FeatureStore], material: Material
) -> None:
    trials = alphanet.train_trials(
        *stores, material, rhos=[0.5], k=3, seeds=[0, 1], metric="random"
    )
    assert (trials.neighbors[0] != trials.neighbors[1]).any()


def test_calibrated__one_scalar_more_on_few_split_biases(
    stores: tuple[FeatureStore, FeatureStore], material: Material
) -> None:
    trials = alphanet.train_trials(*stores, material, rhos=[0.5], k=3, seeds=[0])
    (plain,) = alphanet.fitted("alphanet", material, trials)
    moved = alphanet.calibrated(plain, material)
    extra = moved.settings["offset"]
    few = np.isin(np.arange(12), material.classes.few)
    difference = moved.logits(material.val_features) - plain.logits(material.val_features)
    assert difference == pytest.approx(np.broadcast_to(extra * few, difference.shape), abs=1e-4)
    assert material.goodness(moved.val) >= material.goodness(plain.val)


def test_on_top__keeps_the_base_rows_of_the_head_below(
    stores: tuple[FeatureStore, FeatureStore], material: Material
) -> None:
    below = fit("logit-adjustment", material)
    found = alphanet.on_top(below, *stores, material, rho=0.5, k=3, seeds=[0])
    assert found.method == "alphanet on logit-adjustment"
    assert below.correction is not None
    assert found.correction is not None
    lower = below.correction.apply(material.head)
    upper = found.correction.apply(material.head)
    base, few = material.classes.base, material.classes.few
    assert upper.weight[base] == pytest.approx(lower.weight[base])
    assert upper.bias_or_zeros[base] == pytest.approx(lower.bias_or_zeros[base])
    assert (upper.weight[few] != lower.weight[few]).any()


def test_on_top__refuses_what_is_not_linear(
    stores: tuple[FeatureStore, FeatureStore], material: Material
) -> None:
    with pytest.raises(InputError, match="not a linear head"):
        alphanet.on_top(fit("ncm-l2", material), *stores, material, rho=0.5, k=3, seeds=[0])
