from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphafix.openset.curve import best_threshold, open_curve, sweep
from alphafix.openset.figures import FIGURES, OpenSetFigures
from alphafix.openset.samples import OpenSamples


def samples(confidence: list[float], right: list[int], known: list[int]) -> OpenSamples:
    return OpenSamples(
        np.array(confidence, dtype=np.float32), np.array(right, bool), np.array(known, bool)
    )


FOUR_AND_TWO = samples([0.9, 0.8, 0.7, 0.2, 0.6, 0.1], [1, 1, 0, 1, 0, 0], [1, 1, 1, 1, 0, 0])


def test_sweep__hand_computed() -> None:
    found = sweep(FOUR_AND_TWO, np.array([0.0, 0.5, 0.85, 1.0], dtype=np.float32))
    assert found["known_accepted"].tolist() == [100, 75, 25, 0]
    assert found["unknown_accepted"].tolist() == [100, 50, 0, 0]
    assert found["open_top1"].tolist() == [75, 50, 25, 0]
    assert found["f_measure"] == pytest.approx([600 / 9, 400 / 7, 200 / 5, 0])
    assert found["f_measure_old"] == pytest.approx([600 / 9, 400 / 6, 100, 0])


def test_best_threshold__the_least_of_equals() -> None:
    # Accepting all known samples and only one unknown: F = 6 / (6 + 1 + 1).
    threshold, value = best_threshold(FOUR_AND_TWO)
    assert threshold == pytest.approx(0.2)
    assert value == pytest.approx(75)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.floats(0, 1, width=32))
def test_sweep__same_as_the_figures_at_any_threshold(seed: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    known = np.arange(50) < 30
    drawn = samples(
        np.round(rng.random(50), 1).tolist(),
        (known & (rng.random(50) < 0.6)).tolist(),
        known.tolist(),
    )
    found = sweep(drawn, np.array([threshold], dtype=np.float32))
    figures = OpenSetFigures(drawn, threshold).vector(np.arange(50))
    for name in ("f_measure", "f_measure_old", "known_accepted", "unknown_accepted"):
        assert found[name][0] == pytest.approx(figures[FIGURES.index(name)])


def test_open_curve__json_without_nan_where_nothing_is_unknown() -> None:
    only_known = samples([0.9, 0.4], [1, 0], [1, 1])
    found = open_curve(only_known, only_known).to_dict()
    assert found["base"]["unknown_accepted"] == [None] * 101
    assert "NaN" not in json.dumps(found)
    assert found["thresholds"][10] == 0.1
