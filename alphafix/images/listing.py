"""Image files that are known by path and label: class folders, list files, CSV."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from alphafix.images.fingerprints import Fingerprint, fingerprint_files
from alphafix.images.source import ImageSource, Sample
from alphafix.values.arrays import IntArray
from alphafix.values.texts import Texts


@dataclass(frozen=True)
class FileListing(ImageSource):
    """Image files in a fixed order.

    Attributes:
        root: Folder that the paths are relative to.
        paths: N paths; they are the sample ids too.
        labels: int64 of shape N.
        remarks: What the user should know before work begins.
        listed: Whether a list names the files, as those of other splits may do too.
    """

    root: Path
    paths: Texts
    labels: IntArray
    remarks: tuple[str, ...] = ()
    listed: bool = False

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

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out."""
        return self.remarks

    @property
    def file_paths(self) -> Iterable[str]:
        """Paths of the images of a list."""
        return map(os.path.normpath, self._files(range(len(self.paths)))) if self.listed else ()

    def fingerprint(self) -> Fingerprint:
        """Hash of paths, labels and files."""
        found = fingerprint_files(lambda: self._files(range(len(self.paths))))
        return found.with_parts(self.paths.data, self.paths.ends, self.labels)

    def part_fingerprint(self, group: int, index: range) -> Fingerprint:
        """Hash of some paths, labels and files."""
        paths = "".join(f"{printable(self.paths[i])}\0" for i in index)
        found = fingerprint_files(lambda: self._files(index))
        return found.with_parts(paths.encode(), self.labels[index.start : index.stop])

    def _files(self, index: range) -> Iterator[str]:
        root = str(self.root)
        return (os.path.join(root, self.paths[i]) for i in index)


def printable(path: str) -> str:
    """A path that can be written as UTF-8, whatever bytes the file's name has."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
