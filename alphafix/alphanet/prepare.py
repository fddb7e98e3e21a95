"""From the stored features to what a sweep trains on, in one sequential pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from alphafix.alphanet.scores import Layout, Scores, reduce_scores
from alphafix.alphanet.training import Data, Trial
from alphafix.features.features import Features
from alphafix.progress import Progress
from alphafix.values.arrays import FloatArray, IntArray
from alphafix.values.classes import ClassTable
from alphafix.values.head import Head


@dataclass(frozen=True)
class Source:
    """Some samples of a feature store.

    Attributes:
        store: The store.
        index: Which of its samples, int64, ascending.
    """

    store: Features
    index: IntArray

    @property
    def labels(self) -> IntArray:
        """Their class ids."""
        return self.store.labels[self.index]

    def chunks(self) -> Iterator[tuple[FloatArray, IntArray]]:
        """Features and labels in order; the store is read once, from start to end."""
        labels = self.store.labels
        for start, chunk in self.store.chunks():
            low, high = np.searchsorted(self.index, [start, start + len(chunk)])
            if low < high:
                mine = self.index[low:high]
                yield chunk[mine - start], labels[mine]


def whole(store: Features) -> Source:
    """All samples of a store."""
    return Source(store, np.arange(len(store), dtype=np.int64))


def hold_out(store: Features, share: float, *, seed: int) -> tuple[Source, Source]:
    """Split a store by class into (training, validation) samples.

    Every class gives at least one sample and keeps at least one; a class with a single
    sample gives none.
    """
    rng = np.random.default_rng(seed)
    held = np.zeros(len(store), dtype=bool)
    for label in np.unique(store.labels):
        mine = np.flatnonzero(store.labels == label)
        count = min(max(1, round(share * len(mine))), len(mine) - 1)
        held[rng.choice(mine, size=count, replace=False)] = True
    index = np.arange(len(store), dtype=np.int64)
    return Source(store, index[~held]), Source(store, index[held])


def seen(trials: Sequence[Trial]) -> IntArray:
    """The samples that any trial sees, int64, ascending."""
    drawn = [np.unique(trial.samples) for trial in trials]
    return np.unique(np.concatenate(drawn))


def renumbered(trials: Sequence[Trial], index: IntArray) -> list[Trial]:
    """The trials with samples counted among ``index`` instead of the whole store."""
    return [replace(t, samples=np.searchsorted(index, t.samples)) for t in trials]


def scores_of(
    source: Source,
    head: Head,
    layout: Layout,
    *,
    device: torch.device,
    memory: int,
    class_major: bool,
    progress: Progress,
    what: str,
) -> Scores:
    """Read the samples once and reduce them (see `reduce_scores`)."""
    with progress(what, len(source.index)) as advance:

        def counted() -> Iterator[tuple[FloatArray, IntArray]]:
            for features, labels in source.chunks():
                yield features, labels
                advance(len(labels))

        return reduce_scores(
            counted(),
            len(source.index),
            head,
            layout,
            device=device,
            memory=memory,
            class_major=class_major,
        )


def prepare(
    train: Source,
    val: Source | None,
    head: Head,
    classes: ClassTable,
    layout: Layout,
    *,
    device: torch.device,
    memory: int,
    progress: Progress,
) -> Data:
    """Reduce training and validation samples for a sweep.

    Args:
        train: The samples that the trials see.
        val: Validation samples, or None.
        head: The base model's head.
        classes: The class table.
        layout: Columns for the neighbours of all trials.
        device: Where to train.
        memory: Bytes that the scores of each may take as tables.
        progress: Told the samples read.
    """
    # Sparse products, which validation uses, do not exist on Apple's GPUs.
    val_device = torch.device("cpu") if device.type == "mps" else device
    positions = np.full(len(classes), -1, dtype=np.int64)
    positions[layout.columns] = np.arange(len(layout.columns))
    return Data(
        train=scores_of(
            train,
            head,
            layout,
            device=device,
            memory=memory,
            class_major=False,
            progress=progress,
            what="scores of training samples",
        ),
        val=None
        if val is None
        else scores_of(
            val,
            head,
            layout,
            device=val_device,
            memory=memory,
            class_major=True,
            progress=progress,
            what="scores of validation samples",
        ),
        weight=torch.from_numpy(head.weight).to(device),
        biases=torch.from_numpy(head.bias_or_zeros[classes.few]).to(device),
        scale=head.scale,
        few=torch.from_numpy(classes.few).to(device),
        positions=torch.from_numpy(positions).to(device),
    )
