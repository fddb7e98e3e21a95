"""What tells whether data has changed: its content, or what the file system says of it."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from alphafix.values.arrays import Array

# Up to this size files are read whole: a fraction of a second, against minutes of extraction.
READ_WHOLE = 256 << 20

CONTENT = "content"
FILES = "size, time and inode of the files"

_PIECE = 1 << 20


@dataclass(frozen=True)
class Fingerprint:
    """A hash that changes when the data does.

    Attributes:
        sha256: The hash.
        of: What was hashed: `CONTENT`, or `FILES` where the content is too large to read each time.
    """

    sha256: str
    of: str = CONTENT

    def with_parts(self, *parts: bytes | Array) -> Fingerprint:
        """The fingerprint of this data with more that belongs to it."""
        digest = hashlib.sha256(self.sha256.encode())
        for part in parts:
            digest.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).data)
        return Fingerprint(digest.hexdigest(), self.of)


Stamp = tuple[int, int, int]
"""Size in bytes, time of the last change in ns, and inode of a file."""


def stamp(path: str | os.PathLike[str]) -> Stamp:
    """What the file system says of a file; (-1, 0, 0) if it is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return -1, 0, 0
    return found.st_size, found.st_mtime_ns, found.st_ino % 2**63


def fingerprint_files(paths: Callable[[], Iterable[str | os.PathLike[str]]]) -> Fingerprint:
    """Fingerprint of files in order: of their content if that is at most `READ_WHOLE` bytes.

    Args:
        paths: Gives the paths, anew with each call. One that is not there counts as such.
    """
    known = array("q")
    total = 0
    for path in paths():
        found = stamp(path)
        known.extend(found)
        total += max(0, found[0])
    if total > READ_WHOLE:
        return Fingerprint(hashlib.sha256(known).hexdigest(), FILES)
    digest = hashlib.sha256()
    for path in paths():
        own = hashlib.sha256()
        try:
            with open(path, "rb") as file:
                while piece := file.read(_PIECE):
                    own.update(piece)
            digest.update(own.digest())
        except OSError as error:
            digest.update(str(error.errno).encode())
    return Fingerprint(digest.hexdigest())
