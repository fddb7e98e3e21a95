"""Files that are written whole or not at all, and read with clear errors."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import os
import stat
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alphafix.errors import FileFormatError, InputError, TargetExistsError, option
from alphafix.reading.boundary import cannot_read, reading
from alphafix.reading.schema import parse_json, typed

Array = npt.NDArray[Any]

# The one metadata entry of our safetensors files; its value is JSON.
METADATA_KEY = "alphafix"

# Name in that JSON of the hash of all else that the file holds.
_CONTENT = "content_sha256"


def refuse_existing(path: Path, *, overwrite: bool, todo: str = "") -> None:
    """Raise unless ``path`` is free or may be replaced.

    Raises:
        TargetExistsError: If ``path`` exists and ``overwrite`` is false.
    """
    if not overwrite and os.path.lexists(path):
        raise TargetExistsError(
            f"{path} exists already",
            expected="a path that is free",
            todo=todo or f"give {option('overwrite', True)} to replace it, or choose another path",
        )


@contextlib.contextmanager
def atomic_path(path: Path, *, overwrite: bool = False, mode: int | None = None) -> Iterator[Path]:
    """Yield a path to write to; what is there becomes ``path`` if the block succeeds.

    Where the file system can, the data has no name until it is whole, so that even a kill leaves
    nothing. It is flushed to the disk before it gets its name, and the folder after that, so that a
    crash leaves either the old file or the new one. Without ``overwrite`` the name is taken
    exclusively: of two that write the same path, one fails.

    Args:
        path: The file to write.
        overwrite: Whether it may be there already.
        mode: Its permissions; by default those that a new file gets. Nobody else can read
            the data before.

    Raises:
        TargetExistsError: If ``path`` exists and ``overwrite`` is false.
        InputError: If the folder cannot be written or the disk is full.
    """
    refuse_existing(path, overwrite=overwrite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _draft(path) as (draft, descriptor, usual):
            yield draft
            os.fchmod(descriptor, usual if mode is None else mode)
            os.fsync(descriptor)
            _publish(draft, path, overwrite=overwrite)
    except FileExistsError as error:
        refuse_existing(path, overwrite=False)
        raise _cannot_write(path, error) from error
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        _flush(path.parent)
    except OSError as error:
        raise InputError(
            f"{path} is there and whole, but the disk did not confirm it",
            got=error.strerror or str(error),
            expected="a disk that keeps what it is told to",
            todo="check the disk; after a power cut the file may be gone",
        ) from error


def _cannot_write(path: Path, error: OSError) -> InputError:
    return InputError(
        f"cannot write {path}",
        got=error.strerror or str(error),
        expected="a folder that can be written and a disk with room",
        todo="nothing was changed; mend it and give the same command again",
    )


@contextlib.contextmanager
def _draft(path: Path) -> Iterator[tuple[Path, int, int]]:
    """An empty file on the file system of ``path``, without a name if that is possible.

    Yields:
        Its path, a descriptor, and the permissions that a new file gets here.
    """
    named = None
    try:
        descriptor = os.open(path.parent, os.O_TMPFILE | os.O_RDWR, 0o666)
        draft = Path(f"/proc/self/fd/{descriptor}")
        if not draft.exists():  # without /proc it could get no name
            os.close(descriptor)
            raise OSError(errno.EOPNOTSUPP, "no /proc")
    except (AttributeError, OSError):  # another system, or a file system without
        named = draft = _temporary(path)
        descriptor = os.open(named, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
    usual = stat.S_IMODE(os.fstat(descriptor).st_mode)
    os.fchmod(descriptor, 0o600)
    try:
        yield draft, descriptor, usual
    finally:
        os.close(descriptor)
        if named is not None:
            named.unlink(missing_ok=True)


def _publish(draft: Path, path: Path, *, overwrite: bool) -> None:
    """Give a draft its name; with ``overwrite`` in the place of what has it."""
    if not overwrite:
        _link(draft, path)
        return
    named = draft
    if draft.parent != path.parent:  # it has no name yet
        named = _temporary(path)
        _link(draft, named)
    os.replace(named, path)


def _link(draft: Path, path: Path) -> None:
    """Give a file one more name, which must be free."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:  # with a folder given, Python's link follows /proc/self/fd/N to the file itself
        os.link(draft, path.name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=True)
    except OSError as error:
        if error.errno not in _NO_LINKS or draft.parent != path.parent:
            raise
        # No second names here (FAT, some network file systems): the name is taken, then filled.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        os.replace(draft, path)
    finally:
        os.close(folder)


_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


def _temporary(path: Path) -> Path:
    """A name beside ``path`` that `remove_temporary` knows; not longer than names may be."""
    return path.with_name(f"{_stem(path.name)}.{uuid.uuid4().hex[:8]}.tmp")


def _stem(name: str) -> str:
    return f".{os.fsdecode(os.fsencode(name)[:200])}"


def remove_temporary(folder: Path, name: str = "") -> None:
    """Remove what a killed process left of a file (of any, or of ``name``) half-written."""
    for path in folder.glob(f"{glob.escape(_stem(name))}*.tmp"):
        path.unlink(missing_ok=True)


def digest(value: object) -> str:
    """SHA-256 of JSON data in canonical form."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str, *, overwrite: bool = False) -> None:
    """Write ``text`` as UTF-8, whole or not at all (see `atomic_path` for what it raises)."""
    with atomic_path(path, overwrite=overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object, *, overwrite: bool = False) -> None:
    """Write ``value`` as indented JSON, whole or not at all (see `atomic_path`)."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n", overwrite=overwrite)


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: If it cannot be read.
        FileFormatError: If it is not valid JSON in UTF-8, too deep or too large.
    """
    with reading(path, "valid JSON", todo="make it again"):
        return parse_json(path.read_bytes())


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        InputError: If it cannot be read.
        FileFormatError: If it is not valid JSON in UTF-8, or anything but an object.
    """
    found = read_json(path)
    with reading(path, "a JSON object", todo="make it again"):
        return typed(dict[str, Any], found)


def write_tensors(
    path: Path,
    tensors: Mapping[str, Array],
    metadata: Mapping[str, Any],
    *,
    overwrite: bool = False,
    sealed: bool = True,
) -> None:
    """Write arrays and JSON metadata as one safetensors file, whole or not at all.

    Unless it is not to be ``sealed`` (a model, whose rows a patch changes), the metadata holds a
    hash of both, by which `read_tensors` knows a changed byte.
    """
    from safetensors.numpy import save

    # NumPy makes numbers (no axes) into arrays of one axis; they must come back as they were.
    contiguous = {
        name: np.ascontiguousarray(array).reshape(array.shape) for name, array in tensors.items()
    }
    seal = {_CONTENT: _content(contiguous, metadata)} if sealed else {}
    text = json.dumps({**metadata, **seal}, sort_keys=True, ensure_ascii=False, allow_nan=False)
    # Not by save_file, which makes a temporary file of its own that a kill would leave behind.
    data = save(contiguous, metadata={METADATA_KEY: text})
    with atomic_path(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(data)


def read_metadata(path: Path) -> dict[str, Any]:
    """Read the JSON metadata of a safetensors file that alphafix wrote, and no tensor.

    Raises:
        FileFormatError: If the file is truncated or not such a file.
    """
    with open_safetensors(path, framework="numpy") as file:
        metadata = _metadata(path, file)
    metadata.pop(_CONTENT, None)
    return metadata


def _metadata(path: Path, file: Any) -> dict[str, Any]:
    with reading(path, "a safetensors file with metadata of alphafix"):
        found = parse_json((file.metadata() or {}).get(METADATA_KEY, "{}"))
        return typed(dict[str, Any], found, "its metadata")


def read_tensors(path: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """Read all arrays and the JSON metadata of a safetensors file that alphafix wrote.

    Raises:
        FileFormatError: If the file is truncated, not such a file, or changed since.
    """
    with open_safetensors(path, framework="numpy") as file:
        with reading(path, "a safetensors file of arrays that NumPy has"):
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = _metadata(path, file)
    recorded = metadata.pop(_CONTENT, None)
    if recorded is not None and recorded != _content(tensors, metadata):
        raise FileFormatError(
            f"{path} has changed since it was written",
            got="other content than its own hash says",
            expected="the file as alphafix wrote it",
            todo="bring it back, or make it again",
        )
    return tensors, metadata


def _content(tensors: Mapping[str, Array], metadata: Mapping[str, Any]) -> str:
    """SHA-256 of arrays, in the order of their names, and of JSON data."""
    found = hashlib.sha256(digest(metadata).encode())
    for name, array in sorted(tensors.items()):
        found.update(f"{name} {array.dtype} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


@contextlib.contextmanager
def open_safetensors(path: Path, *, framework: str = "pt") -> Iterator[Any]:
    """Open a safetensors file (memory-mapped); ``framework`` is "pt" or "numpy".

    Raises:
        FileFormatError: If the file is truncated or not a safetensors file.
        InputError: If it does not exist or cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework=framework) as file:
            yield file
    except SafetensorError as error:
        raise FileFormatError(
            f"{path} is not a whole safetensors file",
            got=f"{error} (file size {path.stat().st_size:,} bytes)",
            expected="a file that ends where its header says",
            todo="copy or make the file again",
        ) from error
    except OSError as error:
        raise cannot_read(path, error, "a readable safetensors file") from error


# Hashing a model of 4 GB takes as long as patching it.
_MOST_HASHED = 64 << 20


def fingerprint(path: Path) -> str:
    """What tells whether a file has changed: its SHA-256, or size and time of a large one."""
    found = path.stat()
    if found.st_size <= _MOST_HASHED:
        return sha256_file(path)
    return f"{found.st_size} bytes of {found.st_mtime_ns}"


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as lower-case hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
