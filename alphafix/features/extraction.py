"""Extraction: images through a model into the shards of a store."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from alphafix.features.features import FeatureArrays
from alphafix.features.ledger import Ledger, Note
from alphafix.features.plan import ShardPlan, plan_shards, shard_rows
from alphafix.features.shards import check_rows, read_shard, rounded, write_shard
from alphafix.features.sums import ClassSums
from alphafix.images.batches import Batch, BatchDataset, bad_image, load_batches
from alphafix.progress import Advance
from alphafix.values.arrays import FloatArray, IntArray
from alphafix.values.head import Head

FeaturesOf = Callable[[Tensor], Tensor]
"""A batch of images on the CPU -> n x D features, wherever they are computed."""


@dataclass(frozen=True)
class Job:
    """One process's part of the extraction of one split.

    Attributes:
        dataset: The images.
        features_of: The model.
        num_classes: C.
        width: D.
        dtype: Stored element type.
        batch_size: Images a batch.
        workers: Processes that load images.
        pin_memory: Whether batches are to be loaded for a GPU.
        skip_bad: Whether images that cannot be used are left out instead of an error.
        rank: Number of this process.
        world: Number of processes.
        shard_samples: Samples a shard, or None for the usual size in bytes.
        decoder: Decodes what the dataset left encoded.
        head: The model's head, whose hits are counted by class.
        around: Entered while the model runs, when the processes that load images have started.
    """

    dataset: BatchDataset
    features_of: FeaturesOf
    num_classes: int
    width: int
    dtype: str
    batch_size: int
    workers: int
    pin_memory: bool = False
    skip_bad: bool = False
    rank: int = 0
    world: int = 1
    shard_samples: int | None = None
    decoder: Callable[[Batch], Batch] | None = None
    head: Head | None = None
    around: Callable[[], AbstractContextManager[None]] = nullcontext

    def shards(self) -> Iterator[ShardPlan]:
        """The shards of this process."""
        rows = shard_rows(self.width, self.dtype, self.batch_size, self.shard_samples)
        return plan_shards(self.dataset.source, rows, rank=self.rank, world=self.world)


def extracted(job: Job, advance: Advance) -> Iterator[FeatureArrays]:
    """Extract without files: features as a store of ``job.dtype`` would give them, in order.

    Yields:
        The features of each shard that has an image.

    Raises:
        InputError: See `extract_shards`.
    """
    keys = chain.from_iterable(plan.batches(job.batch_size) for plan in job.shards())
    batches = load_batches(job.dataset, _Keys(keys), workers=job.workers, pin_memory=job.pin_memory)
    with job.around():
        for plan in job.shards():
            rows = _forward(job, plan, batches, advance)
            if rows.features:
                features, labels = rows.checked(job)
                stored = rounded(features, job.dtype).float().numpy()
                yield FeatureArrays(stored, labels, tuple(rows.ids), job.num_classes, job.dtype)


def extract_shards(job: Job, ledger: Ledger, advance: Advance) -> tuple[ClassSums, int]:
    """Extract what is missing of this process's shards.

    Shards that are there already, of samples that have not changed since, are read for the class
    sums and left as they are. While the
    model works on the next shard, a thread writes the last one.

    Args:
        job: What this process extracts.
        ledger: Where results go, and what is there already.
        advance: Told of each batch.

    Returns:
        Class sums, counts and hits over all of this process's shards, in the order of the shards;
        and the number of these shards.

    Raises:
        InputError: If an image cannot be used (and ``skip_bad`` is false), a label is out of
            range, or a feature is not finite.
    """
    sums = ClassSums(job.num_classes, job.width, job.head)
    # Each is found once a shard.
    data = functools.cache(lambda plan: job.dataset.source.part_fingerprint(*plan.samples).sha256)
    done = functools.cache(lambda plan: ledger.done(plan.name, lambda: data(plan)))

    def todo() -> Iterator[ShardPlan]:
        for plan in job.shards():
            if done(plan) is None:
                data(plan)  # before the first of its images is read: what changes later is seen
                yield plan

    keys = chain.from_iterable(plan.batches(job.batch_size) for plan in todo())
    batches = load_batches(job.dataset, _Keys(keys), workers=job.workers, pin_memory=job.pin_memory)
    count = 0
    pending: Future[None] | None = None
    with job.around(), ThreadPoolExecutor(max_workers=1) as writer:
        for plan in job.shards():
            count += 1
            note = done(plan)
            if note is not None:
                finish = _recount(ledger, note, sums)
                advance(plan.key.stop - plan.key.start)
            else:
                rows = _forward(job, plan, batches, advance)
                finish = _write(job, ledger, (plan.name, data(plan)), rows, sums)
            if pending is not None:
                pending.result()
            pending = writer.submit(finish)
        if pending is not None:
            pending.result()
    return sums, count


class _Keys:
    """An iterable that `DataLoader` takes for a sampler without a length."""

    def __init__(self, keys: Iterator[Any]) -> None:
        self._keys = keys

    def __iter__(self) -> Iterator[Any]:
        return self._keys


@dataclass(frozen=True)
class _Rows:
    """The samples of one shard, features still where they were computed."""

    features: list[Tensor]
    labels: list[Tensor]
    ids: list[str]
    bad: list[tuple[str, str]]
    cut: list[str]

    def checked(self, job: Job) -> tuple[FloatArray, IntArray]:
        """Features and labels, as they may be stored; waits for the device."""
        features = torch.cat(self.features).cpu().float().numpy()
        labels = torch.cat(self.labels).numpy()
        check_rows(features, labels, self.ids, num_classes=job.num_classes, dtype=job.dtype)
        return features, labels


def _forward(job: Job, plan: ShardPlan, batches: Iterator[Batch], advance: Advance) -> _Rows:
    rows = _Rows([], [], [], [], [])
    for key in plan.batches(job.batch_size):
        batch = next(batches)
        batch = batch if job.decoder is None else job.decoder(batch)
        if batch.bad and not job.skip_bad:
            raise bad_image(batch.bad)
        rows.bad.extend(batch.bad)
        rows.cut.extend(batch.cut)
        if isinstance(batch.images, Tensor):
            rows.features.append(job.features_of(batch.images))
            rows.labels.append(batch.labels)
            rows.ids.extend(batch.ids)
        advance(key.stop - key.start)
    return rows


def _write(
    job: Job, ledger: Ledger, of: tuple[str, str], rows: _Rows, sums: ClassSums
) -> Callable[[], None]:
    name, data = of

    def finish() -> None:
        shard = None
        if rows.features:
            # The copy from the device waits for the model here, not in the main thread.
            features, labels = rows.checked(job)
            path = ledger.folder / f"{name}.safetensors"
            shard, stored = write_shard(path, features, labels, rows.ids, dtype=job.dtype)
            sums.add(stored, labels)
        ledger.write(Note(name, shard, tuple(rows.bad), len(rows.cut), data))

    return finish


def _recount(ledger: Ledger, note: Note, sums: ClassSums) -> Callable[[], None]:
    def finish() -> None:
        if note.shard is not None:
            sums.add(*read_shard(ledger.folder / note.shard.file))

    return finish
