from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import linregress
from sklearn.neighbors import NearestNeighbors

from alphafix.metrics.alike import Alike
from alphafix.report.analysis import (
    flows,
    linear_fit,
    mean_interval,
    neighbour_pools,
    prediction_groups,
    top_confusions,
)
from alphafix.report.combinations import learned
from alphafix.values.classes import ClassTable
from alphafix.values.correction import Chosen, Correction
from alphafix.values.trials import TrialRecord, Trials

# Two few-split classes (0, 1) and three base ones, on a line.
CLASSES = ClassTable(("a", "b", "c", "d", "e"), np.array([5, 6, 50, 60, 500]))
MEANS = np.array([[0.0], [10.0], [1.0], [4.0], [12.0]], dtype=np.float32)


def matrix(alike: Alike) -> np.ndarray:
    """All pairs, bool C x C."""
    count = alike.had.shape[0]
    true, predicted = np.divmod(np.arange(count**2), count)
    return alike.holds(true, predicted).reshape(count, count)


def test_pools__neighbours_and_mean_distances_by_hand() -> None:
    few, base, everything = neighbour_pools(MEANS, CLASSES, k=2)
    assert [pool.key for pool in (few, base, everything)] == ["few-base", "base-few", "all-all"]
    assert np.argwhere(matrix(few.alike)).tolist() == [[0, 2], [0, 3], [1, 3], [1, 4]]
    assert few.distances.tolist() == [2.5, 4.0]
    # Base classes have only the two few-split ones to be near to.
    assert np.argwhere(matrix(base.alike)).tolist() == [
        [2, 0],
        [2, 1],
        [3, 0],
        [3, 1],
        [4, 0],
        [4, 1],
    ]
    assert base.distances.tolist() == [5.0, 5.0, 7.0]
    assert np.argwhere(matrix(everything.alike))[:2].tolist() == [[0, 2], [0, 3]]
    assert not np.diag(matrix(everything.alike)).any()
    assert (matrix(everything.alike).sum(axis=1) == 2).all()


def test_pools__distances_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    means = rng.normal(100, 1, size=(40, 8)).astype(np.float32)
    classes = ClassTable(tuple(map(str, range(40))), np.where(np.arange(40) % 3, 500, 5))
    few = neighbour_pools(means, classes, k=4)[0]
    search = NearestNeighbors(n_neighbors=4, algorithm="brute").fit(means[classes.base])
    distances, found = search.kneighbors(means[classes.few])
    assert few.distances == pytest.approx(distances.mean(axis=1), rel=1e-4)
    for label, near in zip(classes.few, classes.base[found], strict=True):
        assert set(np.flatnonzero(matrix(few.alike)[label])) == set(near)


def test_neighbour_pools__of_the_classes_seen_are_those_of_all() -> None:
    whole = neighbour_pools(MEANS, CLASSES, k=2)
    seen = np.array([0, 0, int(CLASSES.few[0]), int(CLASSES.base[-1]), -1])
    for pool, other in zip(neighbour_pools(MEANS, CLASSES, k=2, seen=seen), whole, strict=True):
        assert set(pool.classes.tolist()) == set(other.classes.tolist()) & set(seen.tolist())
        place = np.searchsorted(other.classes, pool.classes)
        assert pool.distances == pytest.approx(other.distances[place])
        for label in pool.classes.tolist():
            every = np.arange(len(CLASSES))
            same = np.full(len(CLASSES), label)
            near = pool.alike.holds(same, every)
            assert near.tolist() == other.alike.holds(same, every).tolist()


def test_pools__equal_means_never_make_a_class_its_own_neighbour() -> None:
    means = np.zeros((5, 1), dtype=np.float32)
    everything = neighbour_pools(means, CLASSES, k=2)[2]
    assert not np.diag(matrix(everything.alike)).any()
    assert (matrix(everything.alike).sum(axis=1) == 2).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31))
def test_alike__as_a_matrix_of_all_pairs(seed: int) -> None:
    """The matrix that was kept before is the oracle."""
    rng = np.random.default_rng(seed)
    count, members = int(rng.integers(2, 12)), int(rng.integers(0, 30))
    true, predicted = rng.integers(0, count, (2, members))
    expected = np.zeros((count, count), dtype=bool)
    expected[true, predicted] = True
    pairs = Alike.of_pairs(true, predicted, count)
    assert (matrix(pairs) == expected).all()
    kept = np.unique(rng.integers(0, count, 3))
    expected[:, np.setdiff1d(np.arange(count), kept)] = False
    assert (matrix(pairs.among(kept)) == expected).all()
    marks = (true, rng.integers(0, 4, members))
    grouped = np.eye(count, dtype=bool)
    for mark in range(4):
        inside = marks[0][marks[1] == mark]
        grouped[np.ix_(inside, inside)] = True
    assert (matrix(Alike.of_marks(marks, marks, count)) == grouped).all()


def test_pools__memory_grows_with_classes_not_with_their_square() -> None:
    """A matrix of 20,000 x 20,000 booleans alone would be 400 MB, and there are three pools."""
    count, k = 20_000, 5
    rng = np.random.default_rng(0)
    counts = np.where(np.arange(count) < 100, 5, 500)
    classes = ClassTable(tuple(map(str, range(count))), counts)
    means = rng.standard_normal((count, 4), dtype=np.float32)
    labels, predicted = rng.integers(0, count, (2, 50_000))
    neighbour_pools(means[:50], ClassTable(classes.names[:50], counts[50:100]), k)  # imports
    tracemalloc.start()
    pools = neighbour_pools(means, classes, k)
    found = [prediction_groups(predicted, labels, pool.alike) for pool in pools]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [len(one) for one in found] == [50_000] * 3
    assert peak < 60 * 2**20


def test_groups_and_flows__hand_computed() -> None:
    alike = Alike.of_pairs(np.array([0]), np.array([1]), 3)
    labels = np.array([0, 0, 0, 1])
    before = prediction_groups(np.array([0, 1, 2, 0]), labels, alike)
    after = prediction_groups(np.array([0, 0, 1, 0]), labels, alike)
    assert before.tolist() == [0, 1, 2, 2]
    assert after.tolist() == [0, 0, 1, 2]
    assert flows(before, after).tolist() == [[1, 0, 0], [1, 0, 0], [0, 1, 1]]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_linear_fit__as_scipy_and_inside_its_band(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=30)
    y = 2 * x + rng.normal(size=30)
    found = linear_fit(x, y, draws=500)
    peer = linregress(x, y)
    assert found is not None
    assert (found.slope, found.intercept, found.r) == pytest.approx(
        (peer.slope, peer.intercept, peer.rvalue)
    )
    middle = found.slope * found.x + found.intercept
    assert (found.low <= middle + 1e-9).all()
    assert (middle <= found.high + 1e-9).all()
    assert found.r_low < found.r < found.r_high


def test_linear_fit__nothing_to_fit() -> None:
    assert linear_fit(np.array([1.0, 2.0]), np.array([1.0, 2.0])) is None
    assert linear_fit(np.ones(5), np.arange(5.0)) is None


def test_mean_interval__of_trials() -> None:
    mean, low, high = mean_interval([1.0, 2.0, 3.0, 4.0])
    assert mean == 2.5
    assert 1 < low < 2.5 < high < 4
    assert mean_interval([3.0]) == (3.0, 3.0, 3.0)


def test_top_confusions__most_frequent_first() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1])
    predicted = np.array([1, 2, 2, 0, 1, 0])
    assert top_confusions(predicted, labels, 3) == {0: [(2, 2), (1, 1)], 1: [(0, 1)]}


def make_correction(seeds: list[int]) -> Correction:
    trials = Trials(
        records=tuple(TrialRecord(0.5, 2, seed) for seed in range(2)),
        neighbors=np.array([[[2, 3], [3, 4]], [[2, 4], [3, 4]]]),
        alphas=np.array([[[0.5, -0.5], [1, 0]], [[0.7, 0.3], [0.5, -0.5]]], dtype=np.float32),
        biases=np.zeros((2, 2), dtype=np.float32),
    )
    chosen = Chosen({"rho": 0.5, "k": 2, "seeds": seeds})
    rows = np.zeros((2, 1), dtype=np.float32)
    return Correction(CLASSES.few, rows, None, chosen=chosen, trials=trials)


def test_learned__combination_in_words() -> None:
    found = learned(make_correction([0]))
    assert found is not None
    assert found.text(0, CLASSES) == "[a] + 0.50 [c] - 0.50 [d]"
    assert found.text(1, CLASSES) == "[b] + 1.00 [d]"


def test_learned__mean_over_seeds_with_different_neighbours() -> None:
    found = learned(make_correction([0, 1]))
    assert found is not None
    assert found.text(0, CLASSES) == "[a] + 0.60 [c] - 0.25 [d] + 0.15 [e]"


def test_learned__nothing_without_trials() -> None:
    rows = np.zeros((2, 1), dtype=np.float32)
    assert learned(Correction(CLASSES.few, rows, None, method="few-bias")) is None
