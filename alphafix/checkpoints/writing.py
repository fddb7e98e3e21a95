"""Copying a file with some bytes replaced, and proving that nothing else has changed.

The copy is left to the kernel (`copy_file_range`, which shares blocks where the file system
can), the comparison with the original runs beside it, piece by piece through small buffers,
and the result gets its name only after both. Comparing every byte is stronger than comparing
hashes, and several times faster.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from alphafix.checkpoints.splices import Splice
from alphafix.errors import AlphafixError
from alphafix.files import atomic_path
from alphafix.progress import Progress, silent

Verify = Literal["full", "rows"]

# Large enough that starting a piece costs nothing, small enough that the comparison begins
# while the copy is under way.
PIECE = 64 << 20
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


def write_copy(
    source: Path,
    target: Path,
    splices: Sequence[Splice],
    *,
    overwrite: bool = False,
    verify: Verify = "full",
    check: Callable[[Path], None] | None = None,
    progress: Progress = silent,
) -> None:
    """Write a copy of ``source`` with ``splices``, whole and verified or not at all.

    Args:
        source: The original; only read.
        target: The copy; written under another name first.
        splices: Replaced bytes, in order, not overlapping.
        overwrite: Whether ``target`` may be there.
        verify: "full" to compare every byte, "rows" to compare the replaced ones.
        check: Called with the finished copy before it gets its name.
        progress: Told of the copied bytes.

    Raises:
        TargetExistsError: If ``target`` is there and ``overwrite`` is false.
        InputError: If the folder cannot be written or the disk is full.
        VerificationError: If the copy is not as it was to be.
    """
    size = source.stat().st_size
    mode = stat.S_IMODE(source.stat().st_mode)
    with atomic_path(target, overwrite=overwrite, mode=mode) as temporary:
        with progress(f"writing {target.name}", size) as advance:
            _copy(source, temporary, splices, size, verify, advance)
        if check is not None:
            check(temporary)


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
    checks: list[Future[None]] = []
    with (
        source.open("rb") as original,
        target.open("w+b", buffering=0) as copy,
        ThreadPoolExecutor(1) as beside,
    ):
        for span in spans(splices, size):
            for piece in _pieces(span):
                inside = [part for item in written if (part := item.within(piece)) is not None]
                _copy_piece(original.fileno(), copy.fileno(), piece)
                for part in inside:
                    write_all(copy.fileno(), part)
                finish = partial(_finish_piece, source, target, piece, inside, verify)
                checks.append(beside.submit(finish))
                advance(piece.length)
        for part in written:
            write_all(copy.fileno(), part)
        for check in checks:
            check.result()
    _compare_written(target, written)
    expected = size + sum(len(splice.data) - splice.length for splice in splices)
    if target.stat().st_size != expected:
        raise _wrong(target, f"{target.stat().st_size:,} bytes", f"{expected:,} bytes")


@dataclass(frozen=True)
class Written:
    """``data`` at ``offset`` of the copy."""

    offset: int
    data: bytes

    def within(self, span: Span) -> Written | None:
        """The part of it that lies in ``span``."""
        start = max(self.offset, span.target)
        end = min(self.offset + len(self.data), span.target + span.length)
        if start >= end:
            return None
        return Written(start, self.data[start - self.offset : end - self.offset])


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


def _finish_piece(
    source: Path, target: Path, piece: Span, inside: Sequence[Written], verify: Verify
) -> None:
    if verify == "full":
        compare_piece(source, target, piece, inside)
    # Linux begins to write out pages that it is told are not needed. Begun while the copy goes
    # on, the flush at its end has nothing left to wait for.
    if hasattr(os, "posix_fadvise"):
        with target.open("rb") as copy:
            advice = os.POSIX_FADV_DONTNEED
            os.posix_fadvise(copy.fileno(), piece.target, piece.length, advice)


def compare_piece(source: Path, target: Path, piece: Span, inside: Sequence[Written]) -> None:
    """Compare a piece of the copy, byte by byte, with the original and what is written over it.

    Raises:
        VerificationError: If a byte differs.
    """
    expected, found = bytearray(BUFFER), bytearray(BUFFER)
    with source.open("rb", buffering=0) as original, target.open("rb", buffering=0) as copy:
        for done in range(0, piece.length, BUFFER):
            block = Span(0, piece.target + done, min(BUFFER, piece.length - done))
            original.seek(piece.start + done)
            copy.seek(block.target)
            if block.length < BUFFER:
                expected, found = bytearray(block.length), bytearray(block.length)
            _read_all(original, expected)
            _read_all(copy, found)
            for item in inside:
                if (part := item.within(block)) is not None:
                    at = part.offset - block.target
                    expected[at : at + len(part.data)] = part.data
            if expected != found:
                at = next(i for i in range(block.length) if expected[i] != found[i])
                raise _wrong(target, f"another byte at {block.target + at:,}", "the original's")


def _read_all(file: Any, buffer: bytearray) -> None:
    view = memoryview(buffer)
    while view:
        count = file.readinto(view)
        if not count:
            raise OSError(errno.EIO, "the file became shorter while it was compared")
        view = view[count:]


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
