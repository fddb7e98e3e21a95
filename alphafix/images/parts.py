"""Parts of a source: its first or evenly spread samples, or validation carved from training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from alphafix.images.fingerprints import CONTENT, Fingerprint
from alphafix.images.source import ImageSource, Sample
from alphafix.values.arrays import BoolArray, IntArray
from alphafix.values.labels import ByClass


def spread(size: int, limit: int | None) -> Sequence[int] | IntArray:
    """At most ``limit`` of the numbers below ``size``, evenly spread."""
    if limit is None or limit >= size:
        return range(size)
    return (np.arange(limit, dtype=np.int64) * size) // limit


class Limited(ImageSource):
    """At most ``limit`` samples of another source: evenly spread over one group, else the first.

    Args:
        source: The other source.
        limit: Largest number of samples.
    """

    def __init__(self, source: ImageSource, limit: int) -> None:
        self._source = source
        self._limit = limit
        self._index = spread(source.size(0), limit) if source.groups == 1 else None
        self._taken: list[int] = []  # samples of the first groups, as far as they are known

    @property
    def groups(self) -> int:
        """Number of groups."""
        return self._source.groups

    def size(self, group: int) -> int:
        """Number of samples of one group, within the limit."""
        if self._index is not None:
            return len(self._index)
        while len(self._taken) <= group:
            left = self._limit - sum(self._taken)
            size = self._source.size(len(self._taken)) if left > 0 else 0
            self._taken.append(min(left, size))
        return self._taken[group]

    def sample(self, group: int, index: int) -> Sample:
        """Read one sample."""
        return self._source.sample(group, index if self._index is None else int(self._index[index]))

    @property
    def known_labels(self) -> IntArray | None:
        """Labels of the samples within the limit."""
        labels = self._source.known_labels
        return None if labels is None or self._index is None else labels[np.asarray(self._index)]

    @property
    def notes(self) -> tuple[str, ...]:
        """Those of the other source."""
        return self._source.notes

    @property
    def file_paths(self) -> Iterable[str]:
        """Those of the other source, beyond the limit too."""
        return self._source.file_paths

    def fingerprint(self) -> Fingerprint:
        """That of the other source."""
        return self._source.fingerprint()

    def part_fingerprint(self, group: int, index: range) -> Fingerprint:
        """Those of the samples of the other source, one by one where they lie apart."""
        if self._index is None:
            return self._source.part_fingerprint(group, index)
        return _of_each(self._source, group, np.asarray(self._index)[index])


class Chosen(ImageSource):
    """Some samples of another source.

    Args:
        source: The other source.
        index: Numbers of its samples in each group, ascending.
        labels: All labels, int64 of shape N.
    """

    def __init__(self, source: ImageSource, index: Sequence[IntArray], labels: IntArray) -> None:
        self._source = source
        self._index = index
        self._labels = labels

    @property
    def groups(self) -> int:
        """Number of groups."""
        return self._source.groups

    def size(self, group: int) -> int:
        """Number of samples of one group."""
        return len(self._index[group])

    def sample(self, group: int, index: int) -> Sample:
        """Read one sample."""
        return self._source.sample(group, int(self._index[group][index]))

    @property
    def known_size(self) -> int:
        """N."""
        return len(self._labels)

    @property
    def known_labels(self) -> IntArray:
        """All labels."""
        return self._labels

    @property
    def notes(self) -> tuple[str, ...]:
        """Those of the other source."""
        return self._source.notes

    def fingerprint(self) -> Fingerprint:
        """That of the other source, with the numbers of the samples."""
        return self._source.fingerprint().with_parts(*self._index)

    def part_fingerprint(self, group: int, index: range) -> Fingerprint:
        """Those of the samples of the other source, one by one."""
        return _of_each(self._source, group, self._index[group][index])


def _of_each(source: ImageSource, group: int, index: IntArray) -> Fingerprint:
    """Fingerprint of samples that may lie apart."""
    parts = [source.part_fingerprint(group, range(i, i + 1)) for i in index.tolist()]
    found = Fingerprint("", parts[0].of if parts else CONTENT)
    return found.with_parts(*(part.sha256.encode() for part in parts))


def carve(source: ImageSource, fraction: float, seed: int) -> tuple[Chosen, Chosen]:
    """Take a fraction of each class, drawn at random, out of a source.

    Each class keeps at least one sample and, if it has two, gives one: n samples give
    min(n - 1, max(1, round(n · fraction))).

    Args:
        source: The training split.
        fraction: Which part of each class is taken.
        seed: What draws them; a class's draw depends on its own number and size alone.

    Returns:
        What stays, and what was taken.
    """
    sizes = [source.size(group) for group in range(source.groups)]
    labels = source.known_labels
    if labels is None:  # archives are read through once
        found = [source.label(g, i) for g, size in enumerate(sizes) for i in range(size)]
        labels = np.array(found, dtype=np.int64)
    taken = np.zeros(len(labels), dtype=np.bool_)
    by_class = ByClass.of(labels)
    for label, size in enumerate(by_class.sizes.tolist()):
        wanted = min(size - 1, max(1, round(size * fraction)))
        if wanted > 0:
            drawn = np.random.default_rng([seed, label]).permutation(size)[:wanted]
            taken[by_class.samples(label)[drawn]] = True
    ends = np.cumsum(sizes)[:-1]

    def part(mask: BoolArray) -> Chosen:
        index = [np.flatnonzero(own).astype(np.int64) for own in np.split(mask, ends)]
        return Chosen(source, index, labels[mask])

    return part(~taken), part(taken)
