"""Which samples of a store a sweep trains and is validated on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from alphafix.alphanet.trial import Trial
from alphafix.features.features import FeatureArrays, Features
from alphafix.values.arrays import FloatArray, IntArray
from alphafix.values.labels import ByClass


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

    def features(self) -> FeatureArrays:
        """The samples in memory, as features of their own."""
        ids = tuple(self.store.ids[index] for index in self.index.tolist())
        rows = self.store.gather(self.index)
        return FeatureArrays(rows, self.labels, ids, self.store.num_classes)

    def chunks(self) -> Iterator[tuple[FloatArray, IntArray]]:
        """Features and labels in order; the store is read once, from start to end."""
        labels = self.labels
        for place, features in self.store.selected(self.index):
            yield features, labels[place]


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
    groups = ByClass.of(store.labels)
    for label in np.flatnonzero(groups.sizes).tolist():
        mine = groups.samples(label)
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
