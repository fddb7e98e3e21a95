"""Image files that are known by path and label: class folders, list files, CSV."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from alphafix.images.source import ImageSource, Sample, sha256
from alphafix.values.arrays import IntArray
from alphafix.values.texts import Texts


@dataclass(frozen=True)
class FileListing(ImageSource):
    """Image files in a fixed order.

    Attributes:
        root: Folder that the paths are relative to.
        paths: N paths; they are the sample ids too.
        labels: int64 of shape N.
    """

    root: Path
    paths: Texts
    labels: IntArray

    def size(self, group: int) -> int:
        """N."""
        return len(self.paths)

    def sample(self, group: int, index: int) -> Sample:
        """Name one file."""
        path = self.paths[index]
        return Sample(printable(path), int(self.labels[index]), self.root / path)

    @property
    def known_labels(self) -> IntArray:
        """All labels."""
        return self.labels

    def fingerprint(self) -> str:
        """Hash of paths and labels."""
        return sha256(self.paths.data, self.paths.ends, self.labels)


def printable(path: str) -> str:
    """A path that can be written as UTF-8, whatever bytes the file's name has."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
