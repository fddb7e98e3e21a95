"""What every source of images gives: numbered samples in groups."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from alphafix.images.fingerprints import Fingerprint
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

    def label(self, group: int, index: int) -> int:
        """Label of one sample, without its image."""
        return self.sample(group, index).label

    @property
    def known_size(self) -> int | None:
        """N, if it is known without opening every group."""
        return self.size(0) if self.groups == 1 else None

    @property
    def known_labels(self) -> IntArray | None:
        """All labels, int64 of shape N, if they are known without reading the samples."""
        return None

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of it before work begins, like files that are left out."""
        return ()

    @property
    def file_paths(self) -> Iterable[str]:
        """Paths of the images, in order, where other splits may name the same files."""
        return ()

    @abstractmethod
    def fingerprint(self) -> Fingerprint:
        """What the samples are, to tell whether a source has changed."""

    def part_fingerprint(self, group: int, index: range) -> Fingerprint:
        """What some samples of a group are: an extraction that goes on keeps those that are so.

        Where a source cannot tell them apart, they change with all others.
        """
        return self.fingerprint().with_parts(f"{group} {index}".encode())
