"""Training many trials: which train together, and what is kept of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from alphafix.alphanet.kept import Keep
from alphafix.alphanet.scores import bytes_of_table
from alphafix.alphanet.specs import TrialSpec
from alphafix.alphanet.task import SweepTask
from alphafix.alphanet.training import train_batch
from alphafix.alphanet.trial import Epoch, SweepData, TrainedTrial, Watch, unwatched
from alphafix.files import digest
from alphafix.metrics.accuracy import tier_accuracy
from alphafix.progress import Progress
from alphafix.values.trials import OwnRows, TrialRecord, Trials


def batches(specs: Sequence[TrialSpec], *, steps: Sequence[int], most: int) -> Iterator[list[int]]:
    """Positions of the trials that train together: equal K, similar length, at most ``most``."""
    for k in sorted({spec.k for spec in specs}):
        mine = [i for i, spec in enumerate(specs) if spec.k == k]
        mine.sort(key=lambda i: -steps[i])
        for start in range(0, len(mine), most):
            yield mine[start : start + most]


def run_sweep(
    task: SweepTask,
    data: SweepData,
    keep: Keep | None,
    progress: Progress,
    watch: Watch = unwatched,
) -> Trials:
    """Train all trials, batch by batch.

    Args:
        task: The trials.
        data: Samples and head, as `SweepTask.reduced` gives them.
        keep: Where each batch is kept when it is done, so that an interrupted sweep continues.
        progress: Told the number of trial steps.
        watch: Told every epoch that may be chosen, but of trials that were kept.
    """
    steps = [trial.steps(task.hyper) for trial in task.trials]
    parts: dict[int, Trials] = {}
    with progress("training", sum(steps)) as advance:
        for batch in batches(task.specs, steps=steps, most=task.most_together):
            key = _key(task, [task.specs[i] for i in batch])
            done = None if keep is None else keep.get(key)
            if done is None:
                mine = [task.trials[i] for i in batch]
                seen = partial(_told, batch, watch)
                trained = train_batch(mine, data, task.hyper, advance=advance, watch=seen)
                done = _as_trials(task, batch, trained, data)
                if keep is not None:
                    keep.put(key, done)
            else:
                advance(sum(steps[i] for i in batch))
            parts |= {place: done.only(row) for row, place in enumerate(batch)}
    return Trials.join([parts[place] for place in range(len(task.specs))])


def run_on_heads(
    tasks: Sequence[SweepTask], keeps: Sequence[Keep | None], progress: Progress
) -> list[Trials]:
    """Train the same trials on each of several heads, as many together as may be.

    A trial alone takes twice the time of one of ten.

    Args:
        tasks: The same but for the head and whether there are biases to learn.
        keeps: Where the trials of each are kept. Where those of one are missing, all that train
            with it train again, so that each is rounded as it was.
        progress: Told of all work.
    """
    found: dict[int, Trials] = {}
    for learns in (True, False):
        mine = [i for i, task in enumerate(tasks) if task.hyper.learn_bias == learns]
        if mine:
            per = _together(tasks[mine[0]])
            groups = [mine[start : start + per] for start in range(0, len(mine), per)]
            for group in groups:
                done = _group([tasks[i] for i in group], [keeps[i] for i in group], progress)
                found |= dict(zip(group, done, strict=True))
    return [found[place] for place in range(len(tasks))]


def _together(task: SweepTask) -> int:
    """How many heads train together, as far as there is memory for their scores."""
    table = bytes_of_table(len(task.train.index), task.layout)
    return max(1, min(task.most_together // len(task.specs), task.settings.memory // table))


def _group(
    tasks: Sequence[SweepTask], keeps: Sequence[Keep | None], progress: Progress
) -> list[Trials]:
    if len(tasks) == 1:
        return [run_sweep(tasks[0], tasks[0].reduced(progress), keeps[0], progress)]
    first, each = tasks[0], len(tasks[0].trials)
    key = _key(first, first.specs)
    kept = [None if keep is None else keep.get(key) for keep in keeps]
    known = [one for one in kept if one is not None]
    if len(known) == len(tasks):
        return known
    data = [task.reduced(progress) for task in tasks]
    own = [one for one in data for _ in range(each)]
    trials = [trial for task in tasks for trial in task.trials]
    with progress("training", sum(trial.steps(first.hyper) for trial in trials)) as advance:
        trained = train_batch(trials, own, first.hyper, advance=advance)
    done = [
        _as_trials(task, range(each), trained[place * each : (place + 1) * each], data[place])
        for place, task in enumerate(tasks)
    ]
    for keep, one in zip(keeps, done, strict=True):
        if keep is not None:
            keep.put(key, one)
    return done


def _told(batch: Sequence[int], watch: Watch, epoch: Epoch) -> None:
    """Tell an epoch of a trial of a batch, by its place among all trials."""
    watch(replace(epoch, trial=batch[epoch.trial]))


def _key(task: SweepTask, specs: Sequence[TrialSpec]) -> str:
    """Hash of all that decides these trials but the data."""
    return digest([task.settings.of_trials(), task.device.type, [vars(spec) for spec in specs]])


def _as_trials(
    task: SweepTask, batch: Sequence[int], trained: Sequence[TrainedTrial], data: SweepData
) -> Trials:
    labels = None if data.val is None else data.val.labels.cpu().numpy()
    records = []
    for place, one in zip(batch, trained, strict=True):
        val = None
        if one.correct is not None and labels is not None:
            val = tier_accuracy(one.correct.cpu().numpy(), labels, task.classes)
        spec = task.specs[place]
        records.append(TrialRecord(spec.rho, spec.k, spec.seed, one.epoch, val, tuple(one.history)))
    neighbors = np.stack([task.trials[place].neighbors for place in batch])
    alphas = torch.stack([one.alphas for one in trained]).cpu().numpy()
    biases = torch.stack([one.biases for one in trained]).cpu().numpy()
    if task.own is None:
        return Trials(tuple(records), neighbors, alphas, biases)
    own = OwnRows(task.own, np.ascontiguousarray(alphas[:, :, 0]))
    return Trials(
        tuple(records),
        np.ascontiguousarray(neighbors[:, :, 1:]),
        np.ascontiguousarray(alphas[:, :, 1:]),
        biases,
        own,
    )
