"""The offset on few-split scores, and the rules of selection."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphafix.metrics.accuracy import harmonic_mean, tier_accuracy
from alphafix.metrics.selection import Rule, best_offset
from alphafix.metrics.trade_off import Contest, trade_off
from alphafix.values.classes import ClassTable
from alphafix.values.curve import Curve

BASE = {"few": 20.0, "medium": 60.0, "many": 80.0, "overall": 50.0}
CLASSES = ClassTable(("few", "medium", "many"), np.array([5, 50, 500]))


def make_contest(seed: int, size: int) -> Contest:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, size)
    is_few = labels == 0
    return Contest(
        # Few different values, so that there are ties.
        gap=rng.integers(-5, 6, size).astype(np.float32),
        few_right=is_few & (rng.random(size) < 0.8),
        base_right=~is_few & (rng.random(size) < 0.8),
        labels=labels.astype(np.int64),
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60))
def test_trade_off__is_the_accuracy_at_every_offset(seed: int, size: int) -> None:
    contest = make_contest(seed, size)
    curve = trade_off(contest, CLASSES)
    assert (np.diff(curve.offsets) > 0).all()
    assert len(curve.offsets) == len(np.unique(contest.gap)) + 1
    for position, offset in enumerate(curve.offsets):
        expected = tier_accuracy(contest.correct(offset), contest.labels, CLASSES)
        got = curve.at(position)
        for name, value in expected.items():
            assert got[name] == (None if value is None else pytest.approx(value))


def test_position__has_the_accuracy_of_any_offset() -> None:
    contest = make_contest(3, 200)
    contest = replace(contest, gap=(contest.gap**3 / 16).astype(np.float32))  # not evenly apart
    curve = trade_off(contest, CLASSES).shifted(2.0)
    for offset in np.random.default_rng(0).uniform(-8, 8, 100):
        expected = tier_accuracy(contest.correct(offset), contest.labels, CLASSES)
        got = curve.at(curve.position(offset + 2.0))
        assert got == {name: pytest.approx(value) for name, value in expected.items()}


def test_best_offset__is_the_best_of_all() -> None:
    contest = make_contest(3, 200)
    curve = trade_off(contest, CLASSES)
    position = best_offset(curve, Rule("overall", BASE))
    fine = [contest.correct(offset).mean() for offset in np.linspace(-7, 7, 300)]
    assert contest.correct(curve.offsets[position]).mean() == max(fine)


def best_offset_slowly(curve: Curve, rule: Rule) -> int | None:
    """The same, offset by offset."""
    best: tuple[float, float] | None = None
    found = None
    for position, offset in enumerate(curve.offsets):
        value = rule.goodness(curve.at(position))
        key = (value, -abs(float(offset)))
        if best is None or key > best:
            best, found = key, position
    return found


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60), st.sampled_from([(0, 1, 2), (0, 2), (1, 2)]))
def test_best_offset__is_that_of_every_offset_by_itself(
    seed: int, size: int, labels: tuple[int, ...]
) -> None:
    contest = make_contest(seed, size)
    keep = np.isin(contest.labels, labels)
    if not keep.any():
        return
    curve = trade_off(Contest(*(array[keep] for array in vars(contest).values())), CLASSES)
    base = curve.at(seed % len(curve.offsets))
    for name in ("overall", "few", "harmonic", "balanced"):
        rule = Rule(name, base)
        assert best_offset(curve, rule) == best_offset_slowly(curve, rule)


def test_trade_off__a_split_without_samples_is_none() -> None:
    contest = make_contest(0, 30)
    keep = contest.labels != 1
    some = Contest(*(array[keep] for array in vars(contest).values()))
    curve = trade_off(some, CLASSES)
    assert curve.at(0)["medium"] is None
    assert curve.at(0)["few"] is not None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("overall", 49.0),
        ("few", 40.0),
        ("harmonic", 3 / (1 / 40 + 2 / 60)),
        ("balanced", 160 / 3),
    ],
)
def test_rule__goodness(name: str, expected: float) -> None:
    accuracy = {"few": 40.0, "medium": 60.0, "many": 60.0, "overall": 49.0}
    assert Rule(name, BASE).goodness(accuracy) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "few", "overall", "better"),
    [
        ("overall", 21.0, 45.0, True),  # few-split accuracy is what corrections are for
        ("overall", 20.0, 51.0, True),
        ("overall", 20.0, 50.0, False),
        ("overall", 19.0, 50.0, False),
        ("few", 20.0, 51.0, False),
    ],
)
def test_rule__what_beats_the_base_model(
    name: str, few: float, overall: float, better: bool
) -> None:
    assert Rule(name, BASE).beats({**BASE, "few": few, "overall": overall}) == better


def test_harmonic_mean__leaves_splits_without_samples_out() -> None:
    accuracy = {"few": 50.0, "medium": None, "many": 100.0, "overall": 75.0}
    assert harmonic_mean(accuracy) == pytest.approx(2 / (1 / 50 + 1 / 100))
    assert harmonic_mean({**accuracy, "few": 0.0}) == 0.0
