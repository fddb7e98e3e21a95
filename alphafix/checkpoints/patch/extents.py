"""Where the bytes of files lie on the disk: in blocks that two files share, or nowhere (holes).

A file system that shares blocks (btrfs, XFS) tells which ones a range of a file lies in (FIEMAP,
see Documentation/filesystems/fiemap.rst of Linux). Two ranges in the same blocks cannot differ, so
that there is nothing to compare. Whatever is not certain counts as unknown, and is compared.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# linux/fiemap.h and linux/fs.h.
_FIEMAP = 0xC020660B
_SYNC = 0x1
_HEADER, _EXTENT = struct.Struct("=QQLLLL"), struct.Struct("=QQQQQLLLL")
_LAST, _MERGED, _SHARED = 0x1, 0x1000, 0x2000
_ROOM = 64

# Start and stop of some bytes.
Range = tuple[int, int]


@dataclass(frozen=True)
class _Extent:
    """``length`` bytes of a file from ``start`` on, which lie from ``block`` on on the disk."""

    start: int
    block: int
    length: int

    @property
    def stop(self) -> int:
        return self.start + self.length


def is_sparse(file: int) -> bool:
    """Whether a file takes less of the disk than it has bytes: it may have holes."""
    found = os.fstat(file)
    return found.st_blocks * 512 < found.st_size


def data_ranges(file: int, start: int, stop: int) -> Iterator[Range]:
    """The ranges between ``start`` and ``stop`` of a file that are no holes, in order.

    Raises:
        OSError: If the file ends before ``stop``.
    """
    if os.fstat(file).st_size < stop:
        raise OSError(errno.EIO, "the file became shorter while it was read")
    while start < stop:
        try:
            data = os.lseek(file, start, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole to the end
                return
            raise
        if data >= stop:
            return
        start = min(os.lseek(file, data, os.SEEK_HOLE), stop)
        yield data, start


def shared_ranges(original: int, copy: int, start: int, target: int, length: int) -> list[Range]:
    """Which of ``length`` bytes are in blocks of the disk that both files share.

    Args:
        original: File descriptor of the original.
        copy: File descriptor of the copy, on the same file system.
        start: Where the bytes begin in the original.
        target: Where they begin in the copy.
        length: How many they are.

    Returns:
        The ranges, counted from the first of the bytes on, in order.
    """
    # Numbers of blocks mean something within one device only. Where nothing is shared, that is
    # known at once; only where something is must what is not written yet go to the disk first.
    if os.fstat(original).st_dev != os.fstat(copy).st_dev or not _shared(copy, target, length, 0):
        return []
    copies = _shared(copy, target, length, _SYNC)
    originals = _shared(original, start, length, _SYNC) if copies else []
    found = []
    for one in originals:
        for other in copies:
            if one.block - (one.start - start) == other.block - (other.start - target):
                low = max(one.start - start, other.start - target, 0)
                high = min(one.stop - start, other.stop - target, length)
                if low < high:
                    found.append((low, high))
    return sorted(found)


def _shared(file: int, start: int, length: int, flags: int) -> list[_Extent]:
    """The extents in a range that are certain, plain and shared; none where that cannot be told."""
    found: list[_Extent] = []
    stop = start + length
    while start < stop:
        room = bytearray(_HEADER.size + _ROOM * _EXTENT.size)
        _HEADER.pack_into(room, 0, start, stop - start, flags, 0, _ROOM, 0)
        try:
            fcntl.ioctl(file, _FIEMAP, room)
        except OSError:  # a file system, or a system, that does not tell
            return []
        count = _HEADER.unpack_from(room)[3]
        last = count < _ROOM
        for number in range(count):
            at, block, size, _, _, marks, *_ = _EXTENT.unpack_from(
                room, _HEADER.size + number * _EXTENT.size
            )
            # Not by the blocks of what is compressed, encrypted, inline, or not allocated yet.
            if marks & _SHARED and not marks & ~(_LAST | _MERGED | _SHARED):
                found.append(_Extent(at, block, size))
            start, last = at + size, last or bool(marks & _LAST)
        if last:
            break
    return found


def outside(ranges: Iterable[Range], length: int) -> Iterator[Range]:
    """What of ``length`` bytes lies in none of the ranges, which are in order."""
    done = 0
    for start, stop in ranges:
        if done < start:
            yield done, start
        done = max(done, stop)
    if done < length:
        yield done, length
