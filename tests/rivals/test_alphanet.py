"""AlphaNet in the form of the rivals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alphafix.alphanet.fit import train_trials
from alphafix.alphanet.given import Given
from alphafix.alphanet.kept import FinishedTrials
from alphafix.alphanet.neighbors import nearest_neighbours
from alphafix.alphanet.settings import FitSettings
from alphafix.errors import InputError
from alphafix.features.store import FeatureStore
from alphafix.metrics.limits import Limits
from alphafix.rivals import alphanet, fit
from alphafix.rivals.data import FitData, choose
from alphafix.values.neighbors import Neighbours
from alphafix.values.trials import Trials
from tests.common import make_problem, write_run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> FitData:
    folder: Path = tmp_path_factory.mktemp("alphanet") / "run"
    problem = make_problem(num_classes=12, spread=1.2)
    run = write_run(folder, problem)
    train, val = (FeatureStore.open(run.features(split)) for split in ("train", "val"))
    return FitData(train, val, problem.head, problem.classes, Limits(5.0, confidence=0.5))


@pytest.fixture(scope="module")
def near(data: FitData) -> Neighbours:
    return nearest_neighbours(data.means, data.classes, k=3)


def trained(data: FitData, near: Neighbours, **settings: Any) -> Trials:
    given = Given(data.train, data.val, data.head, data.classes, near)
    return train_trials(given, FitSettings(**settings))


def test_fitted__rows_are_the_mean_of_the_seeds(data: FitData, near: Neighbours) -> None:
    trials = trained(data, near, rhos=(0.5, 1.0), seeds=(0, 1))
    found = alphanet.fitted("alphanet", data, trials)
    assert [one.method for one in found] == ["alphanet rho 0.5", "alphanet rho 1"]
    few = data.classes.few
    singles = [
        trials.rows(i, data.head, few)
        for i, record in enumerate(trials.records)
        if record.rho == 0.5
    ]
    correction = found[0].correction
    assert correction is not None
    assert correction.classes.tolist() == few.tolist()
    assert correction.rows == pytest.approx(np.mean(singles, axis=0), abs=1e-5)


def test_train_trials__random_neighbours_differ_by_trial(data: FitData, near: Neighbours) -> None:
    trials = trained(data, near, seeds=(0, 1), metric="random")
    assert (trials.neighbors[0] != trials.neighbors[1]).any()


def test_calibrated__one_scalar_more_on_few_split_biases(data: FitData, near: Neighbours) -> None:
    trials = trained(data, near, seeds=(0,))
    (plain,) = alphanet.fitted("alphanet", data, trials)
    offer = alphanet.calibrated(plain, data)
    moved = choose(data, [offer]).fitted
    assert moved is not None
    extra = moved.settings["offset"]
    few = np.isin(np.arange(12), data.classes.few)
    difference = moved.logits(data.val_features) - plain.logits(data.val_features)
    assert difference == pytest.approx(np.broadcast_to(extra * few, difference.shape), abs=1e-4)
    assert (moved.val["few"] or 0) >= (plain.val["few"] or 0)
    assert (data.base["overall"] or 0) - (moved.val["overall"] or 0) <= 5 + 1e-9


def test_on_top__keeps_the_base_rows_of_the_head_below(data: FitData, near: Neighbours) -> None:
    below = fit("logit-adjustment", data)
    (found,) = alphanet.on_top([below], data, near, FitSettings(seeds=(0,)))
    assert found.method == "alphanet on logit-adjustment"
    assert below.correction is not None
    assert found.correction is not None
    lower = below.correction.apply(data.head)
    upper = found.correction.apply(data.head)
    base, few = data.classes.base, data.classes.few
    assert upper.weight[base] == pytest.approx(lower.weight[base])
    assert upper.bias_or_zeros[base] == pytest.approx(lower.bias_or_zeros[base])
    assert (upper.weight[few] != lower.weight[few]).any()


def test_on_top__heads_together_are_each_alone(
    data: FitData, near: Neighbours, tmp_path: Path
) -> None:
    """As many as fit into memory, and from what is kept."""
    below = [fit(name, data) for name in ("few-bias", "ncm-cosine", "logit-adjustment", "lda")]
    how = FitSettings(seeds=(0, 1))
    alone = [alphanet.on_top([one], data, near, how)[0] for one in below]
    keeps = [FinishedTrials(tmp_path, one.method) for one in below]
    small = replace(how, memory=30_000)
    for settings, places in ((how, keeps), (how, keeps), (small, None)):
        for mine, theirs in zip(
            alphanet.on_top(below, data, near, settings, keeps=places), alone, strict=True
        ):
            assert mine.correction is not None
            assert theirs.correction is not None
            assert mine.method == theirs.method
            assert mine.settings == theirs.settings
            assert mine.correction.rows == pytest.approx(theirs.correction.rows, abs=1e-4)
            assert mine.logits(data.val_features) == pytest.approx(
                theirs.logits(data.val_features), abs=1e-3
            )
    assert len(list(tmp_path.iterdir())) == len(below)


def test_on_top__refuses_what_is_not_linear(data: FitData, near: Neighbours) -> None:
    with pytest.raises(InputError, match="not a linear head"):
        alphanet.on_top([fit("ncm-l2", data)], data, near, FitSettings(seeds=(0,)))
    with pytest.raises(InputError, match="one K"):
        alphanet.on_top([fit("few-bias", data)], data, near, FitSettings(ks=(2, 3)))
