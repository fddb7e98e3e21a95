"""Batched training: equal to plain PyTorch, and each trial as if it were alone."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from alphafix.alphanet import training
from alphafix.alphanet.inputs import CommonInputs, DistinctInputs, inputs_of
from alphafix.alphanet.training import train_batch
from alphafix.alphanet.trial import Hyper, TrainedTrial, Trial
from alphafix.values.arrays import IntArray
from tests.alphanet.build import Setup, make_setup
from tests.alphanet.oracle import train_direct
from tests.devices import on_each_device

HYPER = Hyper(epochs=12, first_epoch=3, batch_size=8, hidden=(16, 16), decay_every=4)


def run(
    setup: Setup, trials: Sequence[Trial], hyper: Hyper, *, val: bool = True, device: str = "cpu"
) -> list[TrainedTrial]:
    data = setup.data(trials, val=val, device=torch.device(device))
    return train_batch(trials, data, hyper, advance=lambda count: None)


@on_each_device
@pytest.mark.parametrize("preset", ["paper", "official"])
@pytest.mark.parametrize("with_val", [True, False])
def test_train_batch__follows_plain_pytorch(preset: str, with_val: bool, device: str) -> None:
    setup = make_setup(num_classes=12, few=4, width=7)
    official = preset == "official"
    hyper = Hyper(**{**vars(HYPER), "include_self": official, "learn_bias": not official})
    trial = setup.trial(hyper, rho=0.7, k=3, seed=5)
    val = (torch.from_numpy(setup.val_features), torch.from_numpy(setup.val_labels))
    _, losses, epoch, kept = train_direct(
        trial,
        setup.head,
        setup.classes.few,
        hyper,
        torch.from_numpy(setup.features),
        torch.from_numpy(setup.labels),
        val if with_val else None,
    )
    (outcome,) = run(setup, [trial], hyper, val=with_val, device=device)
    assert outcome.alphas.device.type == device
    assert outcome.epoch == epoch
    got = [record.loss for record in outcome.history]
    np.testing.assert_allclose(got, losses, rtol=1e-3)
    weight = torch.from_numpy(setup.head.weight)
    few = setup.classes.few
    rows = weight[few] + torch.einsum("fk,fkd->fd", outcome.alphas.cpu(), weight[trial.neighbors])
    torch.testing.assert_close(rows, kept["weight"][few].detach(), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(
        outcome.biases.cpu(), kept["bias"][few].detach(), rtol=1e-3, atol=1e-4
    )


def same(one: TrainedTrial, other: TrainedTrial) -> bool:
    return (
        torch.equal(one.alphas, other.alphas)
        and torch.equal(one.biases, other.biases)
        and one.epoch == other.epoch
        and one.history == other.history
    )


def sweep(setup: Setup, hyper: Hyper, k: int, neighbors: IntArray) -> list[Trial]:
    return [
        setup.trial(hyper, rho=rho, k=k, seed=seed, neighbors=neighbors)
        for rho in (0.2, 2.0, 1.0)  # different numbers of steps, not in order
        for seed in range(3)
    ]


def assert_each_as_alone(setup: Setup, trials: Sequence[Trial], hyper: Hyper) -> None:
    together = run(setup, trials, hyper)
    for trial, outcome in zip(trials, together, strict=True):
        (alone,) = run(setup, [trial], hyper)
        assert same(alone, outcome)


@pytest.mark.slow
@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize("hidden", [(16, 16), (32, 32, 32), (10, 7)])
def test_train_batch__a_trial_does_not_depend_on_its_batch(k: int, hidden: tuple[int, ...]) -> None:
    setup = make_setup(num_classes=14, few=5, width=9)
    hyper = Hyper(**{**vars(HYPER), "hidden": hidden})
    assert_each_as_alone(setup, sweep(setup, hyper, k, setup.trial(hyper, k=k).neighbors), hyper)


@pytest.mark.slow
@pytest.mark.parametrize("width", [64, 129])
def test_train_batch__nor_where_classes_share_neighbours(width: int) -> None:
    setup = make_setup(num_classes=60, few=40, width=width)
    near = np.stack([setup.classes.base[[i % 6, 6 + i % 5, 11]] for i in range(40)])
    weight = torch.from_numpy(setup.head.weight)
    assert isinstance(inputs_of([weight], torch.from_numpy(near)[None]), DistinctInputs)
    assert_each_as_alone(setup, sweep(setup, HYPER, 3, near), HYPER)


@pytest.mark.slow
@pytest.mark.parametrize("few", [3, 40])
def test_train_batch__nor_on_the_thread_that_trains_it(
    few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = make_setup(num_classes=60, few=few, width=10)
    near = np.stack([setup.classes.base[[i % 6, 6 + i % 5, 11]] for i in range(few)])
    trials = sweep(setup, HYPER, 3, near)
    monkeypatch.setattr(training, "LEAST_WEIGHTS", 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    seen: set[int] = set()
    told: list[int] = []
    try:
        together = train_batch(
            trials,
            setup.data(trials),
            HYPER,
            advance=told.append,
            watch=lambda epoch: seen.add(threading.get_ident()),
        )
        assert torch.get_num_threads() == 2
        assert len(seen) == 2
        assert sum(told) == sum(trial.steps(HYPER) for trial in trials)
        for trial, outcome in zip(trials, together, strict=True):
            (alone,) = run(setup, [trial], HYPER)
            assert same(alone, outcome)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.parametrize("others", [12, 900])
def test_train_batch__nor_where_sums_are_over_very_many_classes(others: int) -> None:
    few = 1150
    setup = make_setup(num_classes=few + others, few=few, width=48)
    hyper = Hyper(epochs=2, first_epoch=1, max_steps=6)
    rng = np.random.default_rng(0)
    near = np.stack([rng.choice(setup.classes.base, 3, replace=False) for _ in range(few)])
    weight = torch.from_numpy(setup.head.weight)
    way = DistinctInputs if others == 12 else CommonInputs
    assert isinstance(inputs_of([weight], torch.from_numpy(near)[None]), way)
    trials = [setup.trial(hyper, k=3, seed=seed, neighbors=near) for seed in range(3)]
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            together = run(setup, trials, hyper)
            torch.set_num_threads(3 - count)
            assert same(run(setup, trials[1:2], hyper)[0], together[1])
    finally:
        torch.set_num_threads(threads)


def test_train_batch__an_error_in_one_thread_ends_all(monkeypatch: pytest.MonkeyPatch) -> None:
    setup = make_setup()
    trials = sweep(setup, HYPER, 3, setup.trial(HYPER, k=3).neighbors)
    monkeypatch.setattr(training, "LEAST_WEIGHTS", 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    told = []

    def advance(count: int) -> None:
        told.append(count)
        if len(told) == 3:
            raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            train_batch(trials, setup.data(trials), HYPER, advance=advance)
    finally:
        torch.set_num_threads(threads)
    assert len(told) < trials[0].steps(HYPER)


def test_train_batch__own_neighbours_a_trial_do_not_mix() -> None:
    setup = make_setup(num_classes=14, few=5, width=9)
    trials = [setup.trial(HYPER, rho=0.5, k=3, seed=seed) for seed in range(4)]
    together = run(setup, trials, HYPER)
    layout_data = setup.data(trials)
    for trial, outcome in zip(trials, together, strict=True):
        # The same columns, so that only the batch differs.
        (alone,) = train_batch([trial], layout_data, HYPER, advance=lambda count: None)
        torch.testing.assert_close(alone.alphas, outcome.alphas, rtol=1e-4, atol=1e-5)
        assert alone.epoch == outcome.epoch


@pytest.mark.parametrize("include_self", [True, False])
def test_train_batch__heads_side_by_side_are_each_alone(include_self: bool) -> None:
    hyper = replace(HYPER, include_self=include_self)
    setup = make_setup(num_classes=14, few=5, width=9, scale=3.0)
    other = replace(setup.head, weight=setup.head.weight[::-1].copy(), scale=0.5)
    heads = [setup, replace(setup, head=other)]
    near = setup.trial(hyper).neighbors
    trials = [setup.trial(hyper, seed=seed, rho=seed + 0.5, neighbors=near) for seed in range(2)]
    data = [one.data(trials) for one in heads]
    together = train_batch(
        trials + trials, [one for one in data for _ in trials], hyper, advance=lambda count: None
    )
    alone = [one for own in heads for one in run(own, trials, hyper)]
    for mine, theirs in zip(together, alone, strict=True):
        torch.testing.assert_close(mine.alphas, theirs.alphas, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(mine.biases, theirs.biases, rtol=1e-4, atol=1e-5)
        assert mine.epoch == theirs.epoch
    assert not torch.equal(together[0].alphas, together[2].alphas)
    features = [one.data(trials, memory=0) for one in heads]
    with pytest.raises(ValueError, match="tables by sample"):
        train_batch(trials, features, hyper, advance=lambda count: None)


def test_train_batch__same_seed_gives_the_same_result() -> None:
    setup = make_setup()
    trial = setup.trial(HYPER, seed=3)
    other = setup.trial(HYPER, seed=4, neighbors=trial.neighbors)
    first, again, different = (run(setup, [t], HYPER)[0] for t in (trial, trial, other))
    assert same(first, again)
    assert not torch.equal(first.alphas, different.alphas)


def test_train_batch__max_steps_stops_early() -> None:
    setup = make_setup()
    hyper = Hyper(**{**vars(HYPER), "max_steps": 2})
    counted: list[int] = []
    trial = setup.trial(hyper)
    (outcome,) = train_batch([trial], setup.data([trial]), hyper, advance=counted.append)
    assert counted == [1, 1]
    assert outcome.epoch == 1


def test_train_batch__small_data_take_several_passes_an_epoch() -> None:
    setup = make_setup()
    once = setup.trial(HYPER)
    hyper = replace(HYPER, least_steps=2 * once.steps_per_epoch(HYPER) + 1)
    trial = setup.trial(hyper)
    assert trial.samples.shape == (3 * len(once.samples), once.samples.shape[1])
    assert trial.steps(hyper) == 3 * once.steps(HYPER)
    (outcome,) = run(setup, [trial], hyper)
    assert [record.epoch for record in outcome.history] == list(range(1, HYPER.epochs + 1))
    # Other samples in other passes, and a step in three follows plain training with three times
    # as many epochs of one pass, where rates and choices come three times as late.
    slow = replace(HYPER, epochs=36, first_epoch=9, decay_every=12)
    (plain,) = run(setup, [setup.trial(slow)], slow, val=False)
    (same_steps,) = run(setup, [trial], hyper, val=False)
    assert torch.equal(plain.alphas, same_steps.alphas)


def test_train_batch__enough_data_are_trained_as_in_the_paper() -> None:
    setup = make_setup()
    once = setup.trial(HYPER)
    hyper = replace(HYPER, least_steps=once.steps_per_epoch(HYPER))
    trial = setup.trial(hyper)
    assert (trial.samples == once.samples).all()
    assert same(run(setup, [trial], hyper)[0], run(setup, [once], HYPER)[0])


def test_train_batch__alphas_have_unit_norm_and_rows_keep_the_bound() -> None:
    setup = make_setup(num_classes=12, few=4, width=7)
    trial = setup.trial(HYPER, k=3)
    (outcome,) = run(setup, [trial], HYPER)
    torch.testing.assert_close(outcome.alphas.abs().sum(1), torch.ones(4))
    near = torch.from_numpy(setup.head.weight)[trial.neighbors]
    change = torch.einsum("fk,fkd->fd", outcome.alphas, near).norm(dim=1)
    assert (change <= near.norm(dim=2).max(dim=1).values + 1e-5).all()  # Eq. 3
