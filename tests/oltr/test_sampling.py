"""The samples of an epoch: what is drawn, and that nothing else decides it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphafix.errors import InputError
from alphafix.oltr.training.sampling import (
    class_aware_order,
    draw_epoch,
    require_samples,
    scramble,
    uniforms,
)

COUNTS = (50, 20, 9, 3, 1)
LABELS = np.repeat(np.arange(len(COUNTS)), COUNTS)


def test_plain__gives_every_sample_at_most_once_and_drops_the_remainder() -> None:
    epoch = draw_epoch(LABELS, sampler="plain", batch=16, seed=0, stage=1, epoch=0)
    assert epoch.index.shape == (83 // 16, 16)
    assert len(np.unique(epoch.index)) == epoch.index.size


def test_class_aware__draws_all_classes_equally_often_four_at_a_time() -> None:
    epoch = draw_epoch(LABELS, sampler="class_aware", batch=20, seed=0, stage=2, epoch=0)
    assert epoch.index.shape == (83 // 20, 20)
    drawn = LABELS[epoch.index.ravel()]
    # A batch of 20 is one turn of the five classes, four samples each.
    for batch in drawn.reshape(4, 5, 4):
        assert (batch == batch[:, :1]).all()
        assert sorted(batch[:, 0]) == [0, 1, 2, 3, 4]


def test_class_aware__repeats_a_sample_only_when_its_class_is_used_up() -> None:
    order = class_aware_order(LABELS, 200, np.random.default_rng(0))
    for label, count in enumerate(COUNTS):
        mine = order[LABELS[order] == label]
        assert len(mine) == 40
        for start in range(0, 40 - count + 1, count):
            assert len(np.unique(mine[start : start + count])) == count


def test_class_aware__classes_come_in_another_order_each_turn() -> None:
    order = class_aware_order(LABELS, 20 * 30, np.random.default_rng(0))
    turns = LABELS[order].reshape(30, 20)[:, ::4]
    assert len({tuple(turn) for turn in turns}) > 15


@pytest.mark.parametrize("sampler", ["plain", "class_aware"])
def test_epoch__depends_on_seed_stage_and_number_alone(sampler: str) -> None:
    def draw(**values: int) -> bytes:
        numbers = {"seed": 1, "stage": 1, "epoch": 3, **values}
        epoch = draw_epoch(
            LABELS,
            sampler="plain" if sampler == "plain" else "class_aware",
            batch=16,
            **numbers,
        )
        return epoch.index.tobytes() + epoch.seeds.tobytes()

    np.random.seed(5)
    assert draw() == draw()
    assert len({draw(), draw(seed=2), draw(stage=2), draw(epoch=4)}) == 4


def test_epoch__of_fewer_samples_than_a_batch_is_one_step_of_all() -> None:
    epoch = draw_epoch(LABELS[:5], sampler="plain", batch=128, seed=0, stage=1, epoch=0)
    assert sorted(epoch.index.ravel()) == [0, 1, 2, 3, 4]


def test_part__processes_share_every_batch() -> None:
    epoch = draw_epoch(LABELS, sampler="plain", batch=16, seed=0, stage=1, epoch=0)
    parts = [epoch.part(rank, 4) for rank in range(4)]
    np.testing.assert_array_equal(np.concatenate([p.index for p in parts], axis=1), epoch.index)
    np.testing.assert_array_equal(np.concatenate([p.seeds for p in parts], axis=1), epoch.seeds)


@settings(max_examples=30, deadline=None)
@given(
    counts=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    batch=st.integers(1, 40),
    per_class=st.integers(1, 5),
)
def test_class_aware__is_balanced_for_any_counts(
    counts: list[int], batch: int, per_class: int
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    epoch = draw_epoch(
        labels,
        sampler="class_aware",
        batch=batch,
        seed=0,
        stage=2,
        epoch=0,
        per_class=per_class,
    )
    drawn = np.bincount(labels[epoch.index.ravel()], minlength=len(counts))
    assert drawn.sum() == max(1, len(labels) // min(batch, len(labels))) * min(batch, len(labels))
    assert drawn.max() - drawn.min() <= per_class


def test_uniforms__are_uniform_and_of_each_seed_their_own() -> None:
    seeds = scramble(np.arange(20_000, dtype=np.uint64))
    drawn = uniforms(seeds, 3)
    assert drawn.dtype == np.float32
    assert drawn.min() >= 0
    assert drawn.max() < 1
    # Standard errors: 0.289/sqrt(60000) = 0.0012; correlations 1/sqrt(20000) = 0.007.
    assert abs(drawn.mean() - 0.5) < 0.006
    assert abs(drawn.var() - 1 / 12) < 0.002
    assert np.abs(np.corrcoef(drawn.T) - np.eye(3)).max() < 0.03
    np.testing.assert_array_equal(uniforms(seeds[7:9], 3), drawn[7:9])


def test_scramble__gives_the_published_numbers_of_splitmix64() -> None:
    # The first three of seed 1234567 (the reference implementation of Vigna).
    step = 0x9E3779B97F4A7C15
    state = np.array([(1234567 + i * step) % 2**64 for i in (1, 2, 3)], dtype=np.uint64)
    assert scramble(state).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


def test_require_samples__names_the_classes_without() -> None:
    with pytest.raises(InputError, match=r"2 of 4 classes have no training samples[\s\S]*b, d"):
        require_samples(np.array([0, 2, 2]), 4, ("a", "b", "c", "d"))


@pytest.mark.parametrize("labels", [[], [0, -1], [0, 4]])
def test_require_samples__refuses_labels_that_are_no_class(labels: list[int]) -> None:
    with pytest.raises(InputError, match="no class ids"):
        require_samples(np.array(labels, dtype=np.int64), 4, ("a", "b", "c", "d"))
