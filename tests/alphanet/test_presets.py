"""The paper, the authors' code as it is meant, and that code as it runs."""

from __future__ import annotations

from typing import Any

import pytest

from alphafix.alphanet.fit import train_trials
from alphafix.alphanet.given import Given
from alphafix.alphanet.neighbors import nearest_neighbours
from alphafix.alphanet.settings import FitSettings
from alphafix.alphanet.trial import Hyper
from alphafix.features.store import FeatureStore
from alphafix.values.trials import Trials
from tests.common import make_problem


def trained(*, validated: bool = True, **settings: Any) -> Trials:
    problem = make_problem(num_classes=12, spread=1.2)
    train, val = (
        FeatureStore.of(problem.features[split], problem.labels[split])
        for split in ("train", "val")
    )
    near = nearest_neighbours(train.class_means(), problem.classes, k=3)
    given = Given(train, val if validated else None, problem.head, problem.classes, near)
    return train_trials(given, FitSettings(seeds=tuple(range(6)), **settings))


def test_released__keeps_the_fifth_epoch_and_the_official_preset_selects() -> None:
    released, official = trained(preset="released"), trained(preset="official")
    assert {record.epoch for record in released.records} == {5}
    assert {record.epoch for record in official.records} != {5}
    # The released code trains as the official one does; only what it keeps differs.
    fifth = trained(preset="official", hyper=Hyper(epochs=5))
    assert released.alphas == pytest.approx(fifth.alphas, abs=0)
    for mine, theirs in zip(released.records, official.records, strict=True):
        assert mine.history == theirs.history[:5]


def test_released__keeps_the_last_epoch_where_there_is_no_validation() -> None:
    """So the authors' train.py, which then has no record of a best epoch to overwrite."""
    for settings in ({"validated": False}, {"select": "none"}):
        released = trained(preset="released", **settings)
        assert {record.epoch for record in released.records} == {25}
        assert released.alphas == pytest.approx(
            trained(preset="official", **settings).alphas, abs=0
        )


def test_presets__own_row_and_biases() -> None:
    paper, released = trained(preset="paper"), trained(preset="released")
    assert released.alphas.shape == paper.alphas.shape
    base = make_problem(num_classes=12, spread=1.2).head.bias_or_zeros
    few = make_problem(num_classes=12, spread=1.2).classes.few
    assert (released.biases == base[few]).all()
    assert (paper.biases != base[few]).any()
