"""Limits that hold on fresh samples: counting, slack, and the promise itself by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from alphafix.metrics.limits import MARGINS, WINDOW, Limits, Samples, choices, drop_of, worth_of
from alphafix.metrics.selection import choose_within
from alphafix.metrics.trade_off import Contest, Path
from alphafix.values.arrays import BoolArray, FloatArray64
from alphafix.values.classes import ClassTable

CLASSES = ClassTable(tuple("abcdef"), np.array([5, 5, 30, 50, 200, 300]))
LABELS = np.repeat(np.arange(6), 50)


def make_contest(rng: np.random.Generator, labels: np.ndarray) -> Contest:
    few = np.isin(labels, CLASSES.few)
    gap = np.where(few, rng.normal(0.3, 1, len(labels)), rng.normal(2, 1, len(labels)))
    few_right, base_right = few & (rng.random(len(few)) < 0.8), ~few & (rng.random(len(few)) < 0.8)
    return Contest(gap.astype(np.float32), few_right, base_right, labels)


@pytest.mark.parametrize("limits", [Limits(1.0), Limits(1.0, 2.0, 5.0)])
def test_flips__are_counted_at_every_offset(limits: Limits) -> None:
    rng = np.random.default_rng(0)
    contest, base_right = make_contest(rng, LABELS), rng.random(len(LABELS)) < 0.6
    samples = Samples(CLASSES, LABELS, base_right, limits)
    offsets = Path(contest, free=True).offsets()
    flips = samples.flips(contest, offsets)
    groups: list[BoolArray] = [np.isin(LABELS, CLASSES.few), ~np.isin(LABELS, CLASSES.few)]
    if limits.max_class_drop is not None:
        groups += [np.isin(LABELS, c) for c in range(6)]
    for place in range(0, len(offsets), 7):
        right = contest.correct(offsets[place])
        for row, inside in enumerate(groups):
            assert flips.gained[row, place] == (right & ~base_right & inside).sum()
            assert flips.lost[row, place] == (~right & base_right & inside).sum()
        assert drop_of(flips, [0, 1])[place] == pytest.approx(
            100 * (base_right.mean() - right.mean())
        )


def test_slack__is_standard_errors_to_the_nearest_limit() -> None:
    # 2 of 300 gained, 6 of 300 lost: 4/3 points, 2/3 within a limit of 2.
    base_right = LABELS >= 2
    right = base_right.copy()
    right[[0, 50]] = True
    right[100:106] = False
    contest = Contest(np.full(300, -1, np.float32), right, right, LABELS)
    flips = Samples(CLASSES, LABELS, base_right, Limits(2.0)).flips(contest, np.zeros(1))
    # Poisson means x and x - 6 of what is lost and gained, were the truth at the limit.
    likely = minimize_scalar(
        lambda x: 2 * x - 6 * np.log(x) - 2 * np.log(x - 6), bounds=(6.01, 20), method="bounded"
    ).x
    flips_there = 2 * likely - 6 - 4 / 100 - 36 / 200 + 1
    error = 100 * np.sqrt(2 * flips_there) / 300
    slack = Samples(CLASSES, LABELS, base_right, Limits(2.0)).slack(flips)
    assert slack == pytest.approx([2 / 3 / error], rel=1e-4)
    exactly = Samples(CLASSES, LABELS, base_right, Limits(400 / 300)).slack(flips)
    assert exactly == pytest.approx([0.0])
    # 6 of 200 base samples are 3 points, 6 of the 50 of one class 12.
    for more in (Limits(2.0, max_base_drop=2.9), Limits(2.0, max_class_drop=11.9)):
        samples = Samples(CLASSES, LABELS, base_right, more)
        assert samples.slack(samples.flips(contest, np.zeros(1)))[0] < 0
    enough = Samples(CLASSES, LABELS, base_right, Limits(2.0, 3.0, 12.0))
    assert enough.slack(enough.flips(contest, np.zeros(1))) == pytest.approx([0.0])


def test_choices__are_those_of_the_rule_at_every_margin() -> None:
    """Path by path and margin by margin, in plain words: greatest worth, then greatest gain."""
    rng = np.random.default_rng(3)
    owner = np.repeat(np.array([0, 2, 3, 7]), [30, 1, 50, 20])
    slack = np.round(rng.normal(1, 2, len(owner)), 2) + 0.003
    gain = np.round(rng.normal(1, 2, len(owner)), 1)
    found = choices(owner, gain, slack)
    for margin, chosen in zip(MARGINS, found, strict=True):
        rows = []
        for path in np.unique(owner):
            mine = np.flatnonzero((owner == path) & (slack >= margin) & (gain > 0))
            if len(mine):
                best = mine[np.lexsort((slack[mine], gain[mine]))[-1]]
                worth = np.mean(
                    [max([0.0, *gain[(owner == path) & (slack >= margin + w)]]) for w in WINDOW]
                )
                inside = owner == path
                assert worth_of(gain[inside], slack[inside], margin) == pytest.approx(worth)
                rows.append((worth, best))
        assert chosen == (max(rows)[1] if rows else -1)


def drawn(rng: np.random.Generator, size: int, worth: FloatArray64) -> tuple[list[Path], BoolArray]:
    """Methods with a knob each whose truth is given: each turn of it gains ``worth``, costs 1."""
    labels = np.repeat(np.arange(6), size)
    few = np.isin(labels, CLASSES.few)
    base_right = ~few & (rng.random(len(few)) < 0.9)
    paths = []
    for one in worth:
        gap = np.where(few, rng.exponential(1 / one, len(few)), rng.exponential(4, len(few)))
        right = few & (rng.random(len(few)) < 0.8)
        paths.append(Path(Contest(gap.astype(np.float32), right, base_right, labels), free=True))
    return paths, base_right


@pytest.mark.slow
@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_choose_within__keeps_its_promise_on_fresh_samples(confidence: float) -> None:
    """Six methods as good as each other: the best of them on validation is so by luck."""
    rng = np.random.default_rng(1)
    limit, kept, gains = 2.0, [], []
    for seed in range(80):
        worth = np.full(6, 0.15)
        paths, right = drawn(rng, 60, worth)
        labels = paths[0].contest.labels
        limits = Limits(limit, confidence=confidence)
        choice = choose_within(paths, Samples(CLASSES, labels, right, limits, seed))
        if choice.found is None:
            kept.append(True)
            continue
        fresh, fresh_right = drawn(rng, 60, worth)
        after = fresh[choice.found.place].contest.correct(choice.found.offset)
        kept.append(bool(100 * (fresh_right.mean() - after.mean()) <= limit + 1e-9))
        gains.append(choice.found.few_gain)
    if confidence == 0.5:
        assert np.mean(kept) < 0.7  # so that there is something to promise
    else:
        assert np.mean(kept) >= 0.93
        assert len(gains) > 40  # and not by giving nothing


def test_choose_within__class_limits_hold_for_every_class() -> None:
    rng = np.random.default_rng(0)
    paths, right = drawn(rng, 400, np.array([0.3]))
    labels = paths[0].contest.labels
    free = choose_within(paths, Samples(CLASSES, labels, right, Limits(20.0)))
    tight = choose_within(paths, Samples(CLASSES, labels, right, Limits(20.0, max_class_drop=6.0)))
    assert free.found is not None
    assert tight.found is not None
    after = paths[0].contest.correct(tight.found.offset)
    drops = [100 * (right[labels == c].mean() - after[labels == c].mean()) for c in range(6)]
    assert max(drops) < 6.0
    assert tight.found.few_gain < free.found.few_gain
