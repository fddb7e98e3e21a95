"""Copying a file with some bytes replaced, and proving that nothing else has changed.

The file goes piece by piece, a few at a time. A piece is copied by the kernel
(`copy_file_range`, which shares blocks where the file system can), its way to the disk is
begun at once, and while the disk writes, it is compared with the original through small
buffers. The result gets its name only after all that. Comparing every byte is stronger than
comparing hashes, and several times faster. Bytes that are in the same blocks of the disk are
the same without being read (see `alphafix.checkpoints.patch.extents`).
"""

from __future__ import annotations

import errno
import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from alphafix.checkpoints.formats.splices import Splice
from alphafix.checkpoints.patch.extents import data_ranges, is_sparse, outside, shared_ranges
from alphafix.errors import AlphafixError

Verify = Literal["full", "rows"]

# Large enough that starting a piece costs nothing, small enough that the disk gets its first
# one at once (pieces of 64 MiB left it idle for a third of the time).
PIECE = 4 << 20
# Copying and comparing 4 GB take 2.5 s of processor time, as long as a fast disk takes to write
# them: two pieces at a time hide one behind the other. More gained nothing on two cores.
AT_ONCE = min(4, os.cpu_count() or 1)
# Two of these are all the memory that a comparison needs; they fit into a core's second-level
# cache (1 MiB each did not: comparing took a fifth longer).
BUFFER = 1 << 18
# Blocks can only be shared in whole, so that the bulk of a copy starts at such a boundary.
BLOCK = 4096


class VerificationError(AlphafixError):
    """What was read back is not what was to be written."""


@dataclass(frozen=True)
class Span:
    """``length`` bytes that move from ``start`` in the original to ``target`` in the copy."""

    start: int
    target: int
    length: int

    def part(self, start: int, stop: int) -> Span:
        """Some of the bytes, counted from the first one on."""
        return Span(self.start + start, self.target + start, stop - start)


def fill_copy(
    source: Path,
    draft: Path,
    splices: Sequence[Splice],
    *,
    verify: Verify = "full",
    advance: Callable[[int], None] = lambda count: None,
) -> None:
    """Fill ``draft`` with the bytes of ``source``, with ``splices``, and verify it.

    Args:
        source: The original; only read.
        draft: The file to fill, which nobody else reads yet (see `alphafix.files.atomic_paths`).
        splices: Replaced bytes, in order, not overlapping.
        verify: "full" to prove every byte, "rows" to compare the replaced ones.
        advance: Told of the copied bytes.

    Raises:
        OSError: If it cannot be written.
        VerificationError: If the copy is not as it was to be.
    """
    _copy(source, draft, splices, source.stat().st_size, verify, advance)


def is_copy(source: Path, target: Path, splices: Sequence[Splice]) -> bool:
    """Whether ``target`` is there already, byte by byte as `fill_copy` would fill it."""
    size = source.stat().st_size
    if not target.is_file() or target.stat().st_size != _size_after(size, splices):
        return False
    written = _written(splices)
    try:
        with source.open("rb", buffering=0) as original, target.open("rb", buffering=0) as copy:
            for span in spans(splices, size):
                for piece in _pieces(span):
                    inside = _inside(written, piece)
                    prove_piece(original.fileno(), copy.fileno(), piece, inside, target)
        _compare_written(target, written)
    except VerificationError:
        return False
    return True


def _size_after(size: int, splices: Sequence[Splice]) -> int:
    return size + sum(len(splice.data) - splice.length for splice in splices)


def spans(splices: Sequence[Splice], size: int) -> Iterator[Span]:
    """The parts of a file of ``size`` bytes that are the same in the copy, but may move."""
    start, target = 0, 0
    for splice in [s for s in splices if s.moves]:
        yield Span(start, target, splice.offset - start)
        target += splice.offset - start + len(splice.data)
        start = splice.end
    yield Span(start, target, size - start)


def _copy(
    source: Path,
    target: Path,
    splices: Sequence[Splice],
    size: int,
    verify: Verify,
    advance: Callable[[int], None],
) -> None:
    written = _written(splices)
    with (
        source.open("rb", buffering=0) as original,
        target.open("w+b", buffering=0) as copy,
        ThreadPoolExecutor(AT_ONCE) as threads,
    ):
        # Where it ends in a hole nothing is written that would give the copy its size.
        sparse = verify == "full" and is_sparse(original.fileno())
        if sparse:
            os.ftruncate(copy.fileno(), _size_after(size, splices))

        def finish(piece: Span) -> int:
            inside = _inside(written, piece)
            for span in _without_holes(original.fileno(), piece) if sparse else [piece]:
                _copy_piece(original.fileno(), copy.fileno(), span)
            for part in inside:
                write_all(copy.fileno(), part)
            _begin_flush(copy.fileno(), piece)
            if verify == "full":
                prove_piece(original.fileno(), copy.fileno(), piece, inside, target)
            return piece.length

        pieces = [piece for span in spans(splices, size) for piece in _pieces(span)]
        try:
            for done in as_completed([threads.submit(finish, piece) for piece in pieces]):
                advance(done.result())
        except BaseException:
            threads.shutdown(cancel_futures=True)  # or the rest would be copied in vain
            raise
        for part in written:
            write_all(copy.fileno(), part)
    _compare_written(target, written)
    expected = _size_after(size, splices)
    if target.stat().st_size != expected:
        raise _wrong(target, f"{target.stat().st_size:,} bytes", f"{expected:,} bytes")


@dataclass(frozen=True)
class Written:
    """``data`` at ``offset`` of the copy."""

    offset: int
    data: bytes

    @property
    def end(self) -> int:
        """Where it ends in the copy."""
        return self.offset + len(self.data)

    def within(self, span: Span) -> Written:
        """The part of it that lies in ``span``, which it must overlap."""
        start = max(self.offset, span.target)
        end = min(self.end, span.target + span.length)
        return Written(start, self.data[start - self.offset : end - self.offset])


def _inside(written: Sequence[Written], span: Span) -> list[Written]:
    """The parts that lie in ``span``. There can be tens of thousands, for thousands of spans."""
    first = bisect_right(written, span.target, key=lambda item: item.end)
    last = bisect_left(written, span.target + span.length, key=lambda item: item.offset)
    return [item.within(span) for item in written[first:last]]


def _written(splices: Sequence[Splice]) -> list[Written]:
    found, shift = [], 0
    for splice in splices:
        found.append(Written(splice.offset + shift, splice.data))
        shift += len(splice.data) - splice.length
    return found


def _pieces(span: Span) -> Iterator[Span]:
    done = 0
    while done < span.length:
        step = PIECE - (span.start + done) % BLOCK  # all but the first begin at a block
        step = min(step, span.length - done)
        yield Span(span.start + done, span.target + done, step)
        done += step


def _without_holes(original: int, piece: Span) -> Iterator[Span]:
    """The parts of a piece that the original has on the disk; the copy needs no others."""
    for start, stop in data_ranges(original, piece.start, piece.start + piece.length):
        yield piece.part(start - piece.start, stop - piece.start)


# What copy_file_range says where it cannot serve: another file system, or a special one.
_UNABLE = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF)


def _copy_piece(original: int, copy: int, piece: Span) -> None:
    done = 0
    kernel = hasattr(os, "copy_file_range")
    while done < piece.length:
        left = piece.length - done
        start, target = piece.start + done, piece.target + done
        if kernel:
            try:
                count = os.copy_file_range(original, copy, left, start, target)
            except OSError as error:
                if error.errno not in _UNABLE:
                    raise
                kernel = False
                continue
        else:
            block = os.pread(original, min(left, BUFFER), start)
            write_all(copy, Written(target, block))
            count = len(block)
        if count == 0:
            raise OSError(errno.EIO, "the original became shorter while it was copied")
        done += count


def write_all(file: int, part: Written) -> None:
    """Write all of ``part``, however many calls the system makes of it."""
    view, offset = memoryview(part.data), part.offset
    while view:
        count = os.pwrite(file, view, offset)
        view, offset = view[count:], offset + count


def _begin_flush(copy: int, piece: Span) -> None:
    # Linux begins to write out pages that it is told are not needed, and keeps them until that
    # is done. The flush at the end then has next to nothing left to wait for.
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(copy, piece.target, piece.length, os.POSIX_FADV_DONTNEED)


def prove_piece(
    original: int, copy: int, piece: Span, inside: Sequence[Written], target: Path
) -> None:
    """Prove that a piece of the copy is the original's, but for what is written over it.

    What both have in the same blocks of the disk is; the rest is compared, holes included, for
    that a file has one is only what its file system says. (What is written over the original's
    bytes is read at the end, wherever it lies.)

    Args:
        original: File descriptor of the original.
        copy: File descriptor of the copy.
        piece: Where the piece lies in both.
        inside: What the copy has in the place of the original's bytes.
        target: The copy's path, for messages.

    Raises:
        VerificationError: If a byte differs.
    """
    same = shared_ranges(original, copy, piece.start, piece.target, piece.length)
    for low, high in outside(same, piece.length):
        part = piece.part(low, high)
        compare_piece(original, copy, part, _inside(inside, part), target)


def compare_piece(
    original: int, copy: int, piece: Span, inside: Sequence[Written], target: Path
) -> None:
    """Compare a piece of the copy, byte by byte, with the original and what is written over it.

    Args:
        original: File descriptor of the original.
        copy: File descriptor of the copy.
        piece: Where the piece lies in both.
        inside: What the copy has in the place of the original's bytes.
        target: The copy's path, for messages.

    Raises:
        VerificationError: If a byte differs.
    """
    expected, found = bytearray(BUFFER), bytearray(BUFFER)
    for done in range(0, piece.length, BUFFER):
        block = Span(piece.start + done, piece.target + done, min(BUFFER, piece.length - done))
        if block.length < BUFFER:
            expected, found = bytearray(block.length), bytearray(block.length)
        _read_all(original, expected, block.start)
        _read_all(copy, found, block.target)
        for part in _inside(inside, block):
            at = part.offset - block.target
            expected[at : at + len(part.data)] = part.data
        if expected != found:
            at = next(i for i in range(block.length) if expected[i] != found[i])
            raise _wrong(target, f"another byte at {block.target + at:,}", "the original's")


def _read_all(file: int, buffer: bytearray, offset: int) -> None:
    view = memoryview(buffer)
    while view:
        count = os.preadv(file, [view], offset)
        if not count:
            raise OSError(errno.EIO, "the file became shorter while it was compared")
        view, offset = view[count:], offset + count


def _compare_written(target: Path, written: Sequence[Written]) -> None:
    with target.open("rb") as file:
        for part in written:
            file.seek(part.offset)
            if file.read(len(part.data)) != part.data:
                raise _wrong(target, f"other bytes at {part.offset:,}", "the corrected rows")


def _wrong(target: Path, got: str, expected: str) -> VerificationError:
    return VerificationError(
        f"what was written to {target} is not what was to be written",
        got=got,
        expected=expected,
        todo="nothing was changed; check the disk (and its memory), then try again",
    )
