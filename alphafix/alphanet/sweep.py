"""Many trials: which there are, which train together, and what is kept of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alphafix.alphanet.neighbors import nearest_neighbours, random_neighbours
from alphafix.alphanet.sampling import Pool, draw_epochs, samples_per_epoch
from alphafix.alphanet.training import Data, Hyper, Outcome, Trial, train_batch
from alphafix.files import digest, read_tensors, write_tensors
from alphafix.metrics.accuracy import tier_accuracy
from alphafix.progress import Progress
from alphafix.values.arrays import FloatArray64, IntArray
from alphafix.values.classes import ClassTable
from alphafix.values.correction import Trials

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Setting:
    """What distinguishes a trial: rho, K and the seed."""

    rho: float
    k: int
    seed: int


def settings(rhos: Sequence[float], ks: Sequence[int], seeds: Sequence[int]) -> tuple[Setting, ...]:
    """All different combinations, seeds changing fastest."""
    every = (Setting(rho, k, seed) for k in ks for rho in rhos for seed in seeds)
    return tuple(dict.fromkeys(every))


def streams(seed: int) -> tuple[int, int, int]:
    """Independent seeds for a trial's network, its samples and its random neighbours."""
    network, samples, neighbors = np.random.SeedSequence(seed).generate_state(3).tolist()
    return network, samples, neighbors


def neighbors_of(
    setting: Setting, means: FloatArray64, classes: ClassTable, metric: str
) -> IntArray:
    """The trial's neighbours, F x K; random ones are drawn for each trial from its seed."""
    if metric == "random":
        return random_neighbours(classes, k=setting.k, seed=streams(setting.seed)[2])
    return nearest_neighbours(means, classes, k=setting.k, metric=metric).ids


def make_trial(setting: Setting, neighbors: IntArray, pool: Pool, hyper: Hyper) -> Trial:
    """Draw everything that is random about a trial, as far as its steps go."""
    network, samples, _ = streams(setting.seed)
    epochs, most = hyper.epochs, None
    if hyper.max_steps is not None:
        most = hyper.max_steps * hyper.batch_size
        epochs = min(epochs, -(-most // samples_per_epoch(pool, setting.rho)))
    drawn = draw_epochs(pool, rho=setting.rho, epochs=epochs, seed=samples)[:, :most]
    return Trial(rho=setting.rho, k=setting.k, seed=network, neighbors=neighbors, samples=drawn)


def batches(wanted: Sequence[Setting], *, steps: Sequence[int], most: int) -> Iterator[list[int]]:
    """Positions of the trials that train together: equal K, similar length, at most ``most``."""
    for k in sorted({setting.k for setting in wanted}):
        mine = [i for i, setting in enumerate(wanted) if setting.k == k]
        mine.sort(key=lambda i: -steps[i])
        for start in range(0, len(mine), most):
            yield mine[start : start + most]


def run_sweep(
    wanted: Sequence[Setting],
    trials: Sequence[Trial],
    data: Data,
    classes: ClassTable,
    hyper: Hyper,
    *,
    most: int,
    keep: Path,
    made_from: str,
    progress: Progress,
) -> Trials:
    """Train all trials, batch by batch, each batch kept on disk when it is done.

    Args:
        wanted: T settings.
        trials: Their trials, in the same order.
        data: Samples and head.
        classes: The class table.
        hyper: What all share.
        most: Trials that train together at the most.
        keep: Folder of the finished batches, so that an interrupted sweep continues.
        made_from: Hash of everything else that decides the result.
        progress: Told the number of trial steps.
    """
    steps = [trial.steps(hyper) for trial in trials]
    parts: dict[int, Trials] = {}
    with progress("training", sum(steps)) as advance:
        for batch in batches(wanted, steps=steps, most=most):
            mine = [wanted[i] for i in batch]
            path = (
                keep
                / f"{digest([made_from, [vars(setting) for setting in mine]])[:16]}.safetensors"
            )
            if path.is_file():
                logger.info("%d finished trials found in %s", len(mine), keep)
                done = _load(path)
                advance(sum(steps[i] for i in batch))
            else:
                outcomes = train_batch([trials[i] for i in batch], data, hyper, advance=advance)
                done = _as_trials(mine, [trials[i] for i in batch], outcomes, data, classes)
                _save(done, path)
            for row, place in enumerate(batch):
                parts[place] = done.only(row)
    return Trials.join([parts[place] for place in range(len(wanted))])


def _as_trials(
    wanted: Sequence[Setting],
    trials: Sequence[Trial],
    outcomes: Sequence[Outcome],
    data: Data,
    classes: ClassTable,
) -> Trials:
    records = []
    for setting, outcome in zip(wanted, outcomes, strict=True):
        record: dict[str, Any] = {**vars(setting), "epoch": outcome.epoch, "val": None}
        record["history"] = outcome.history
        if outcome.correct is not None and data.val is not None:
            labels = data.val.labels.cpu().numpy()
            record["val"] = dict(tier_accuracy(outcome.correct.cpu().numpy(), labels, classes))
        records.append(record)
    return Trials(
        settings=tuple(records),
        neighbors=np.stack([trial.neighbors for trial in trials]),
        alphas=torch.stack([outcome.alphas for outcome in outcomes]).cpu().numpy(),
        biases=torch.stack([outcome.biases for outcome in outcomes]).cpu().numpy(),
    )


def _save(trials: Trials, path: Path) -> None:
    write_tensors(path, trials.tensors(), {"trials": list(trials.settings)}, overwrite=True)


def _load(path: Path) -> Trials:
    tensors, metadata = read_tensors(path)
    return Trials.of(tensors, metadata["trials"])
