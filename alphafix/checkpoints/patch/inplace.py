"""Changing a file in place, with a record beside it that restores the original bytes."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from alphafix.checkpoints.formats.splices import Splice
from alphafix.checkpoints.patch.writing import VerificationError, Verify, Written, write_all
from alphafix.errors import (
    FileFormatError,
    InputError,
    MissingStageError,
    TargetExistsError,
    call,
    option,
    some,
)
from alphafix.files import flush, read_tensors, write_tensors
from alphafix.reading.boundary import reading, real
from alphafix.reading.schema import require_arrays, typed
from alphafix.values.arrays import ByteArray, IntArray

_BUFFER = 4 << 20

# What the record of a file is called besides the file's name.
_SUFFIX = ".alphafix-undo"

_COPY = f"leave out {option('in_place')} to write a copy"


@dataclass(frozen=True)
class Undo:
    """The bytes that a file had before it was patched in place.

    Attributes:
        size: Size of the file.
        offsets: Where the P replaced ranges begin, int64.
        lengths: Their lengths, int64.
        old: Their bytes before, end to end, uint8.
        new: Their bytes after, end to end, uint8.
        made_by: What tells the command apart that patches the file, or "".
    """

    size: int
    offsets: IntArray
    lengths: IntArray
    old: ByteArray
    new: ByteArray
    made_by: str = ""

    @classmethod
    def of(cls, file: Path, splices: Sequence[Splice], made_by: str = "") -> Undo:
        """Read the bytes that ``splices`` would replace."""
        with file.open("rb") as opened:
            old = b"".join(os.pread(opened.fileno(), s.length, s.offset) for s in splices)
        return cls(
            size=file.stat().st_size,
            offsets=np.array([s.offset for s in splices], dtype=np.int64),
            lengths=np.array([s.length for s in splices], dtype=np.int64),
            old=np.frombuffer(old, dtype=np.uint8),
            new=np.frombuffer(b"".join(s.data for s in splices), dtype=np.uint8),
            made_by=made_by,
        )

    def splices(self) -> list[Splice]:
        """The splices that restore the file."""
        ends = list(accumulate(self.lengths.tolist()))
        return [
            Splice(int(offset), int(length), self.old[end - length : end].tobytes())
            for offset, length, end in zip(self.offsets, self.lengths, ends, strict=True)
        ]

    def current(self, file: Path) -> ByteArray:
        """The bytes that the file has in these ranges now."""
        with file.open("rb") as opened:
            parts = [os.pread(opened.fileno(), s.length, s.offset) for s in self.splices()]
        return np.frombuffer(b"".join(parts), dtype=np.uint8)

    def is_done(self, file: Path) -> bool:
        """Whether the file has all the new bytes."""
        return file.stat().st_size == self.size and bool((self.current(file) == self.new).all())

    def save(self, file: Path) -> None:
        """Write the record of a file beside it, whole or not at all, for nobody else to read."""
        tensors = {name: getattr(self, name) for name in ("offsets", "lengths", "old", "new")}
        metadata = {"value": "undo", "size": self.size, "made_by": self.made_by}
        write_tensors(undo_path(file), tensors, metadata, like=file)

    @classmethod
    def load(cls, path: Path) -> Undo:
        """Read a record.

        Raises:
            FileFormatError: If it is damaged or something else; it says what that means for the
                file.
        """
        try:
            return cls._read(path)
        except FileFormatError as error:
            file = path.with_name(path.name.removesuffix(_SUFFIX))
            raise FileFormatError(
                f"the undo record {path} is damaged: the original of {file.name} cannot be "
                "restored from it",
                got=error.brief,
                expected=f"what {call('patch', in_place=True)} wrote",
                todo=f"{file} was not touched now: it is as the patch has left it, and good if "
                "that was finished. For the original, take a copy of it, or bring the record back "
                "from one; to keep the file as it is, delete the record",
            ) from error

    @classmethod
    def _read(cls, path: Path) -> Undo:
        tensors, metadata = read_tensors(path)
        if metadata.get("value") != "undo":
            raise FileFormatError(
                f"{path} is no undo record",
                got=f"tensors {some(sorted(tensors))}",
            )
        form = {"offsets": "i P", "lengths": "i P", "old": "u B", "new": "u B"}
        require_arrays(path, tensors, form)
        with reading(path, "an undo record"):
            size = typed(int, metadata["size"], "size")
        made_by = str(metadata.get("made_by", ""))
        undo = cls(size=size, made_by=made_by, **{name: tensors[name] for name in form})
        total = sum(undo.lengths.tolist())
        longest = undo.size - undo.offsets
        outside = (undo.offsets < 0) | (undo.lengths < 0) | (undo.lengths > longest)
        if total != len(undo.old) or total != len(undo.new) or outside.any():
            raise FileFormatError(
                f"{path} is a damaged undo record",
                got=f"ranges of {total:,} bytes, {len(undo.old):,} kept",
            )
        return undo


def undo_path(file: Path) -> Path:
    """Where the record of a file is."""
    return file.with_name(file.name + _SUFFIX)


def refuse_patched(file: Path) -> None:
    """Refuse a file with an undo record: it holds other rows than its head's, or half of them.

    Raises:
        TargetExistsError: If there is one.
    """
    if undo_path(file).exists():
        raise TargetExistsError(
            f"{file} has been patched in place, or that was cut off",
            got=f"its undo record {undo_path(file).name}",
            expected="the original",
            todo=f"restore it first with {call('patch', revert=True)}; a patch that was cut off is "
            f"finished by the same command again",
        )


def take_back_unfinished(files: Sequence[Path], made_by: str) -> bool:
    """Restore files whose patch in place was cut off, so that it can be made again.

    A patch that is whole is only taken back for the command that made it, which was cut off
    before it could say so.

    Args:
        files: The files of a checkpoint.
        made_by: What tells the command apart (see `Undo`).

    Returns:
        Whether there was one.

    Raises:
        TargetExistsError: If another command has patched them, whole.
        InputError: If a file has been changed by something else since.
        FileFormatError: If a record is damaged.
    """
    changed = [file for file in files if undo_path(file).is_file()]
    if not changed:
        return False
    undos = {file: Undo.load(undo_path(file)) for file in changed}
    for file, undo in undos.items():
        _require_ours(file, undo)
    ours = all(made_by and undo.made_by == made_by for undo in undos.values())
    if not ours and all(undo.is_done(file) for file, undo in undos.items()):
        refuse_patched(changed[0])
    revert(changed)
    return True


def condition(files: Sequence[Path]) -> str:
    """In which state an interrupted patch in place, or its revert, has left files, in words."""
    changed = [file for file in files if undo_path(file).is_file()]
    if not changed:
        return f"{files[0]} has its original bytes"
    whole = is_patched(changed)
    return (
        f"{changed[0]} is patched{'' if whole else ' in part'}: the same command again finishes "
        f"it, and {call('patch', revert=True)} restores the original"
    )


def is_patched(files: Sequence[Path]) -> bool:
    """Whether files of a checkpoint hold, whole, the rows that they were patched in place with."""
    changed = [file for file in files if undo_path(file).is_file()]
    return bool(changed) and all(Undo.load(undo_path(file)).is_done(file) for file in changed)


def write_in_place(
    splices: Mapping[Path, Sequence[Splice]], *, verify: Verify = "rows", made_by: str = ""
) -> list[Path]:
    """Change files in place; all records are on the disk before the first change.

    Args:
        splices: Replaced bytes by file, in order; none may change its file's size.
        verify: "rows" to read the changed bytes again, "full" to hash all others before and
            after too.
        made_by: What tells the command apart (see `Undo`).

    Returns:
        The records.

    Raises:
        TargetExistsError: If a file has a record already.
        InputError: If a file cannot be written; what was changed until then is restored.
        VerificationError: If what was read back is not what was to be written.
    """
    for file in splices:
        refuse_patched(file)
        require_changeable(file)
        size = file.stat().st_size
        if any(splice.moves or splice.end > size for splice in splices[file]):
            raise ValueError(f"{file} cannot be changed in place: bytes would move")
    undos = {file: Undo.of(file, own, made_by) for file, own in splices.items()}
    saved: list[Path] = []
    try:
        for file, undo in undos.items():
            saved.append(undo_path(file))
            undo.save(file)
    except BaseException as error:
        if isinstance(error, TargetExistsError):
            saved.pop()  # one that came in between is another patch's
        for record in saved:
            with contextlib.suppress(OSError):
                record.unlink(missing_ok=True)
        raise
    try:
        for file, own in splices.items():
            before = _hash_without(file, own) if verify == "full" else None
            _write(file, own)
            if (undos[file].current(file) != undos[file].new).any():
                raise _wrong(file, "other bytes in the changed rows")
            if before is not None and _hash_without(file, own) != before:
                raise _wrong(file, "other bytes outside the changed rows")
    except OSError as error:
        _roll_back(undos)
        raise _cannot_write(file, error, "the original bytes are back") from error
    except KeyboardInterrupt:
        _roll_back(undos)
        raise
    return saved


def _cannot_write(file: Path, error: OSError, state: str) -> InputError:
    return InputError(
        f"cannot write {file}",
        got=error.strerror,
        expected="a file that can be written",
        todo=f"{state}; {_COPY}",
    )


def _roll_back(undos: Mapping[Path, Undo]) -> None:
    for file, undo in undos.items():
        try:
            _write(file, undo.splices())
        except OSError as error:
            raise VerificationError(
                f"{file} could neither be patched nor restored",
                got=error.strerror,
                expected="a disk that can be written",
                todo="mend the disk, then restore the original with "
                f"{call('patch', revert=True)}; the record is beside it",
            ) from error
    _forget(undos)


def _forget(files: Iterable[Path]) -> None:
    """Delete the records of files that have their original bytes."""
    for file in files:
        try:
            undo_path(file).unlink()
            flush(file.parent)
        except OSError as error:
            raise InputError(
                f"{file} has its original bytes, but its record cannot be deleted for good",
                got=error.strerror or str(error),
                expected=f"a folder where {undo_path(file).name} can be deleted",
                todo="mend that and give the same command again",
            ) from error


def require_changeable(file: Path) -> None:
    """Refuse a file that others see under another name, and would not know to have changed.

    Raises:
        InputError: If it is such a file, or cannot be written.
    """
    links = file.stat().st_nlink
    if file.is_symlink() or links > 1:
        got = f"a link to {real(file)}" if file.is_symlink() else f"a file with {links} names"
        raise InputError(
            f"{file} is not patched in place",
            got=got,
            expected="a file with one name, so that nothing else changes with it",
            todo=_COPY,
        )
    try:
        with file.open("r+b"):
            pass
    except OSError as error:
        raise _cannot_write(file, error, "nothing was changed") from error


def _write(file: Path, splices: Sequence[Splice]) -> None:
    with file.open("r+b", buffering=0) as opened:
        for splice in splices:
            write_all(opened.fileno(), Written(splice.offset, splice.data))
        os.fsync(opened.fileno())


def _hash_without(file: Path, splices: Sequence[Splice]) -> str:
    """SHA-256 of a file's bytes outside of ``splices``."""
    digest, at, size = hashlib.sha256(), 0, file.stat().st_size
    with file.open("rb") as opened:
        for start, end in [*((s.offset, s.end) for s in splices), (size, size)]:
            opened.seek(at)
            while at < start:
                block = opened.read(min(_BUFFER, start - at))
                if not block:
                    break
                digest.update(block)
                at += len(block)
            at = end
    return digest.hexdigest()


def _wrong(file: Path, got: str) -> VerificationError:
    return VerificationError(
        f"{file} is not as it was to be after patching",
        got=got,
        expected="the corrected rows, and nothing else changed",
        todo=f"restore it with {call('patch', revert=True)} and check the disk",
    )


def revert(files: Sequence[Path]) -> list[Path]:
    """Restore the original bytes of files that were patched in place.

    A patch that was cut off in the middle is undone just so. The records are deleted once the
    original bytes are on the disk.

    Args:
        files: The files of a checkpoint; those without a record are left alone.

    Returns:
        The restored files.

    Raises:
        MissingStageError: If none has a record.
        InputError: If a file has been changed by something else since.
        FileFormatError: If a record is damaged.
    """
    changed = [file for file in files if undo_path(file).is_file()]
    if not changed:
        raise MissingStageError(
            f"{files[0]} has no undo record",
            expected=undo_path(files[0]).name,
            todo=f"only files patched with {option('in_place', True)} can be restored, under the "
            "name that they were patched by; a copy was written beside an original, which "
            "is unchanged",
        )
    undos = {file: Undo.load(undo_path(file)) for file in changed}
    for file, undo in undos.items():
        _require_ours(file, undo)
    for file, undo in undos.items():
        try:
            _write(file, undo.splices())
        except OSError as error:
            raise InputError(
                f"{file} cannot be restored",
                got=error.strerror or str(error),
                expected="a file and a disk that can be written",
                todo=f"mend that and give the same command again: {undo_path(file).name} still "
                "holds the original bytes",
            ) from error
        if (undo.current(file) != undo.old).any():
            raise _wrong(file, "other bytes than the original's")
    _forget(changed)
    return changed


def _require_ours(file: Path, undo: Undo) -> None:
    size: Any = file.stat().st_size
    # Cut off in the middle of a row, each byte is still the old or the new one.
    ours = False
    if size == undo.size:
        current = undo.current(file)
        ours = bool(((current == undo.old) | (current == undo.new)).all())
    if not ours:
        raise InputError(
            f"{file} has been changed since it was patched in place",
            got=f"{size:,} bytes, or other rows than the patch wrote",
            expected=f"{undo.size:,} bytes with the patched rows",
            todo=f"the record {undo_path(file).name} no longer fits; delete it if the file is good",
        )
