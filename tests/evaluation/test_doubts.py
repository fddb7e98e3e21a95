"""When predictions look like a permutation of the labels, and when classes only look alike."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from alphafix.features.features import FeatureArrays
from alphafix.metrics.circles import circles_of, log_chance, log_chance_of_circles, own_wins
from alphafix.metrics.doubts import Hits, mixed_up
from alphafix.values.arrays import FloatArray64, IntArray
from alphafix.values.head import Head

CLASSES, WIDTH = 6, 8


def told(
    rng: np.random.Generator,
    samples: int,
    *,
    alike: tuple[int, ...] = (),
    places: tuple[int, ...] = tuple(range(CLASSES)),
) -> IntArray:
    """What `mixed_up` says of random samples.

    Args:
        rng: Draws them.
        samples: Samples of each class.
        alike: Classes that the head's rows tell from one another by noise only.
        places: The row of the head that is taught on each class.
    """
    centres = 6 * np.eye(CLASSES, WIDTH)
    rows = centres.copy()
    rows[list(places)] = centres
    if alike:
        centres[list(alike)] = centres[list(alike)].mean(axis=0)
    x = (centres[:, None] + rng.normal(size=(CLASSES, samples, WIDTH))).reshape(-1, WIDTH)
    return mixed(Head(rows.astype(np.float32)), x, np.repeat(np.arange(CLASSES), samples))


def mixed(head: Head, x: FloatArray64, labels: IntArray) -> IntArray:
    """What `mixed_up` says of samples in memory."""
    features = FeatureArrays.of(x.astype(np.float32), labels, num_classes=head.num_classes)
    right = labels[head.predict(features.array()) == labels]
    hits = Hits(np.bincount(right, minlength=head.num_classes), features.class_counts())
    return mixed_up(head, features, hits)


@pytest.mark.parametrize("alike", [(0, 1), (2, 3, 4)])
@pytest.mark.parametrize("samples", [1, 3, 5, 12, 40])
def test_mixed_up__classes_that_look_alike_are_no_permutation(
    samples: int, alike: tuple[int, ...]
) -> None:
    """Their means are predicted as each other in a quarter of the draws."""
    rng = np.random.default_rng(samples)
    found = [told(rng, samples, alike=alike) for _ in range(400)]
    assert sum(bool((places != np.arange(CLASSES)).any()) for places in found) <= 4


@pytest.mark.parametrize("spread", [0.0, 3.0])
@pytest.mark.parametrize("samples", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("known", "classes"), [(1, 4), (2, 2), (2, 10), (3, 3), (5, 5)])
def test_mixed_up__of_few_samples_that_a_head_knows_nothing_of_is_no_permutation(
    samples: int, known: int, classes: int, spread: float
) -> None:
    """Neither of single ones nor of such as are alike within a class (``spread``)."""
    rng = np.random.default_rng(samples)
    labels = np.repeat(np.arange(known), samples)
    doubted = 0
    for _ in range(200):
        head = Head(rng.normal(size=(classes, WIDTH)).astype(np.float32))
        x = spread * rng.normal(size=(known, WIDTH))[labels]
        x += rng.normal(size=x.shape)
        doubted += bool((mixed(head, x, labels) != np.arange(classes)).any())
    assert doubted <= 200 * 0.02


def test_mixed_up__of_two_classes_of_few_samples_among_others_that_stay() -> None:
    """Five samples of each, all of them wrong, where the head knows the other classes."""
    rng = np.random.default_rng(0)
    places = (1, 0, 2, 3, 4, 5)
    assert told(rng, 5, places=places).tolist() == list(places)
    assert told(rng, 3, places=places).tolist() == list(range(CLASSES))


@pytest.mark.parametrize("places", [(1, 0, 2, 3, 4, 5), (1, 2, 0, 3, 4, 5), (1, 0, 3, 2, 5, 4)])
@pytest.mark.parametrize("samples", [5, 20, 1000])
def test_mixed_up__labels_that_changed_places_are_told(
    samples: int, places: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        np.testing.assert_array_equal(told(rng, samples, places=places), places)


def test_mixed_up__of_many_classes_with_one_sample_each_a_long_circle_is_enough() -> None:
    """No groups of classes that look alike make one circle of 30."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(30, 20))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    places = np.roll(np.arange(30), 1)
    found = mixed(Head(rows.astype(np.float32)), 5 * rows[places], np.arange(30))
    np.testing.assert_array_equal(found, places)


def test_own_wins__are_those_of_the_logits() -> None:
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(4), [3, 9, 70, 5]))
    features = FeatureArrays.of(rng.normal(size=(len(labels), 6)).astype(np.float32), labels)
    head = Head(rng.normal(size=(4, 6)).astype(np.float32), rng.normal(size=4).astype(np.float32))
    places, classes = np.array([2, 1, 3, 0]), np.array([0, 2, 3])
    scores, wins = head.logits(features.array()), np.zeros(4, dtype=np.int64)
    for label in classes:
        rows = np.flatnonzero(labels == label)[:50]
        wins[label] = (scores[rows, label] > scores[rows, places[label]]).sum()
    found, of = own_wins(head, features, places, classes)
    np.testing.assert_array_equal(found, wins)
    np.testing.assert_array_equal(of, [3, 0, 50, 5])


@pytest.mark.parametrize(("samples", "right"), [(2, 0), (3, 0), (4, 0), (5, 0), (10, 1), (30, 6)])
def test_log_chance__bounds_what_counting_gives(samples: int, right: int) -> None:
    """Two classes of a coin's samples, given that at most half are right; exact for none right."""
    rng = np.random.default_rng(0)
    drawn = rng.binomial(samples, 0.5, size=(400_000, 2))
    # Where just half are, the mean is on either side as often.
    above = np.where(2 * drawn == samples, rng.random(drawn.shape) < 0.5, 2 * drawn > samples)
    drawn = drawn[~above.any(axis=1)]
    counted = (drawn.sum(axis=1) <= 2 * right).mean()
    ones = np.ones(2, dtype=np.int64)
    bound = np.exp(log_chance([np.array([0, 1])], right * ones, samples * ones, known=100))
    assert bound >= 0.98 * counted - 1e-5
    if right == 0:
        assert bound == pytest.approx(counted, rel=0.1, abs=1e-4)


@pytest.mark.parametrize(("known", "classes", "length"), [(4, 4, 3), (5, 5, 5), (3, 6, 2)])
def test_log_chance_of_circles__bounds_what_counting_gives(
    known: int, classes: int, length: int
) -> None:
    """Exact where every class is known (all maps are counted)."""
    maps = np.array(list(product(range(classes), repeat=known)))
    on_circles = np.zeros(len(maps))
    for start in range(known):
        at = np.full(len(maps), start)
        back = np.zeros(len(maps), dtype=bool)
        for _ in range(known):
            at = np.where(at < known, maps[np.arange(len(maps)), np.minimum(at, known - 1)], at)
            back |= at == start
        on_circles += back
    counted = (on_circles >= length).mean()
    bound = np.exp(log_chance_of_circles(length, known, classes))
    assert bound >= counted - 1e-12
    if known == classes:
        assert bound == pytest.approx(counted)


def test_circles__of_a_permutation() -> None:
    predicted = np.array([1, 0, 2, 4, 5, 3, 0])
    found = circles_of(predicted, np.arange(6))
    assert [circle.tolist() for circle in found] == [[0, 1], [3, 4, 5]]
