"""What is chosen on held-out training samples with a refitted head, and made for the given one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from alphafix.alphanet.given import Given
from alphafix.alphanet.neighbors import nearest_neighbours
from alphafix.alphanet.settings import FitSettings, HeldOutHead
from alphafix.metrics.limits import Limits
from alphafix.rivals.correct import correct
from alphafix.rivals.data import FitData, predictions
from alphafix.values.head import Head
from tests.rivals.problems import small_data

LIMITS = Limits(2.0, confidence=0.5)


def given_with(few: float) -> tuple[Given, FitData]:
    """A head whose few-split biases are raised, as one of balanced training has them."""
    data = small_data(drop=2.0)
    assert data.head.bias is not None
    bias = data.head.bias.copy()
    bias[data.classes.few] += few
    head = replace(data.head, bias=bias)
    near = nearest_neighbours(data.train.class_means(), data.classes, k=3)
    return Given(data.train, None, head, data.classes, near), data


def settings_with(how: HeldOutHead, *, allow_worse: bool = False) -> FitSettings:
    return FitSettings(
        rhos=(0.5,),
        seeds=(0, 1),
        select="constrained",
        calibrate=True,
        limits=LIMITS,
        holdout=0.25,
        holdout_head=how,
        device="cpu",
        allow_worse=allow_worse,
    )


def overall(head: Head, data: FitData) -> float:
    return float((predictions(head.logits, data.val_features) == data.val_labels).mean())


@pytest.mark.parametrize("method", ["few-bias", "alphanet"])
def test_refitted__that_is_too_unlike_the_given_head_corrects_nothing(method: str) -> None:
    """Ridge regression has the few split never right, the given head has it already."""
    given, data = given_with(4.0)
    found = correct(method, given, settings_with("ridge"))
    assert found.is_base
    assert "too unlike" in (found.kept_because or "")
    assert found.method == method
    worse = correct(method, given, settings_with("ridge", allow_worse=True))
    assert overall(worse.apply(given.head), data) < overall(given.head, data) - 0.05


def test_refitted__that_is_like_the_given_head_corrects_it() -> None:
    given, data = given_with(0.0)
    found = correct("few-bias", given, settings_with("ce"))
    assert not found.is_base
    assert overall(found.apply(given.head), data) > overall(given.head, data) - 0.02


def test_refitted__logits_have_the_units_of_the_given_heads() -> None:
    from alphafix.rivals.held_out import refitted

    given, data = given_with(0.0)
    for factor in (1.0, 50.0):
        scaled = replace(
            given.head, weight=factor * given.head.weight, bias=factor * given.head.bias_or_zeros
        )
        own = refitted(replace(data, head=scaled), "ridge").logits(data.features)
        spread = own.std(axis=1).mean() / scaled.logits(data.features).std(axis=1).mean()
        assert 0.2 < spread < 1.0
    assert np.isfinite(own).all()
