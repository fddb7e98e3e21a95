"""What every source of images gives: numbered samples in groups."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from alphafix.values.arrays import IntArray

# The label of samples of no known class (the open split).
OPEN = -1


class BadImageError(Exception):
    """An image that cannot be used; the message says why, without its name."""


Content = Path | bytes | Image.Image | BadImageError
"""An image: a file, the bytes of one, one that is decoded already, or why there is none."""


@dataclass(frozen=True)
class Sample:
    """One image.

    Attributes:
        id: Its name in the source, unique there.
        label: Its class id, or `OPEN`.
        content: The image.
    """

    id: str
    label: int
    content: Content


class ImageSource(ABC):
    """N images with labels, in groups whose samples are read by number.

    Most sources are one group. An archive is a group of its own, so that an extraction can
    take archives one after the other without opening all of them first. Sources are sent to
    worker processes, so that they must be small, or be arrays that processes can share.
    """

    @property
    def groups(self) -> int:
        """Number of groups."""
        return 1

    @abstractmethod
    def size(self, group: int) -> int:
        """Number of samples of one group."""

    @abstractmethod
    def sample(self, group: int, index: int) -> Sample:
        """Read one sample."""

    @property
    def known_size(self) -> int | None:
        """N, if it is known without opening every group."""
        return self.size(0) if self.groups == 1 else None

    @property
    def known_labels(self) -> IntArray | None:
        """All labels, int64 of shape N, if they are known without reading the samples."""
        return None

    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of what the samples are, to tell whether a source has changed."""


def spread(size: int, limit: int | None) -> Sequence[int] | IntArray:
    """At most ``limit`` of the numbers below ``size``, evenly spread."""
    if limit is None or limit >= size:
        return range(size)
    return (np.arange(limit, dtype=np.int64) * size) // limit


def sha256(*parts: bytes | IntArray) -> str:
    """Hash of bytes and arrays."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).data)
    return digest.hexdigest()


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

    def fingerprint(self) -> str:
        """Hash of the other source."""
        return self._source.fingerprint()
