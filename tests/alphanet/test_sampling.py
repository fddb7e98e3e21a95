"""Epoch samples: what the paper's section 4.1 says of them."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from alphafix.alphanet.sampling import Pool, draw_epochs, samples_per_epoch
from alphafix.values.arrays import IntArray
from alphafix.values.classes import ClassTable


def make_labels(seed: int = 0) -> tuple[IntArray, ClassTable]:
    counts = np.array([5, 300, 25, 8, 100])
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(5), counts))
    return labels.astype(np.int64), ClassTable(tuple("abcde"), counts)


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 4), st.integers(0, 1000))
def test_draw_epochs__has_every_few_sample_once_and_the_right_number(rho: float, seed: int) -> None:
    labels, classes = make_labels()
    pool = Pool.of(labels, classes)
    epochs = draw_epochs(pool, rho=rho, epochs=3, seed=seed)
    assert epochs.shape == (3, 13 + int(rho * 13)) == (3, samples_per_epoch(pool, rho))
    is_few = np.isin(labels[epochs], classes.few)
    for epoch, few in zip(epochs, is_few, strict=True):
        assert sorted(epoch[few].tolist()) == sorted(pool.few.tolist())


def test_draw_epochs__every_base_class_is_equally_likely() -> None:
    labels, classes = make_labels()
    pool = Pool.of(labels, classes)
    epochs = draw_epochs(pool, rho=2000, epochs=1, seed=0)
    drawn = labels[epochs[0]]
    share = (
        np.array([(drawn == c).sum() for c in classes.base]) / np.isin(drawn, classes.base).sum()
    )
    np.testing.assert_allclose(share, 1 / 3, atol=0.01)
    # Within a class, every sample.
    largest = epochs[0][drawn == 1]
    assert len(np.unique(largest)) == 300


def test_draw_epochs__are_redrawn_and_seeded() -> None:
    labels, classes = make_labels()
    pool = Pool.of(labels, classes)
    first, again, other = (draw_epochs(pool, rho=1, epochs=2, seed=seed) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first, again)
    assert (first[0] != first[1]).any()
    assert (first != other).any()
