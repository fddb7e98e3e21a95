"""Files that are written whole or not at all, and read with clear errors."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alphafix.errors import FileFormatError, InputError, TargetExistsError, option
from alphafix.locks import all_locked, make_folders, remove_empty
from alphafix.reading.boundary import cannot_read, reading, real, require_file, special
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
def atomic_path(path: Path, *, overwrite: bool = False, like: Path | None = None) -> Iterator[Path]:
    """Yield a path to write to; what is there becomes ``path`` if the block succeeds.

    See `atomic_paths`, of which this is the one-file form.
    """
    with atomic_paths([path], overwrite=overwrite, like=[like]) as (draft,):
        yield draft


@contextlib.contextmanager
def atomic_paths(
    paths: Sequence[Path],
    *,
    overwrite: bool = False,
    like: Sequence[Path | None] = (),
    check: Callable[[Path], None] | None = None,
) -> Iterator[list[Path]]:
    """Yield paths to write to; what is there becomes ``paths`` if the block succeeds.

    Where the file system can, the data has no name until all of it is whole, so that even a kill
    leaves nothing; elsewhere the next that writes the same path clears it away. It is flushed to
    the disk before it gets its name, and the folder after that, so that a crash leaves either the
    old file or the new one. The names are given in the order of ``paths``. Without ``overwrite``
    they are taken exclusively: of two that write the same path, one fails. Several names are given
    while no other command names anything in their folders (see `together`), so that they are of
    one command even where each may replace the other's.

    Args:
        paths: The files to write.
        overwrite: Whether they may be there already.
        like: For each, a file that it may be read by no more people than, or None. Nobody else
            can read the data before it is whole.
        check: Called with the last draft once all others have their names.

    Raises:
        TargetExistsError: If one exists and ``overwrite`` is false.
        InputError: If a folder cannot be written or the disk is full.
    """
    for path in paths:
        refuse_existing(path, overwrite=overwrite)
        _refuse_special(path)
    made: list[Path] = []
    named: list[Path] = []
    try:
        with contextlib.ExitStack() as stack:
            drafts = []
            for path in paths:
                made += make_folders(path.parent)
                drafts.append(stack.enter_context(_draft(path)))
            yield [draft.file for draft in drafts]
            for draft, model in zip_longest(drafts, like):
                most = 0o777 if model is None else stat.S_IMODE(model.stat().st_mode)
                os.fchmod(draft.descriptor, draft.usual & most)
                os.fsync(draft.descriptor)
            if len(paths) > 1:
                stack.enter_context(together(paths))
            with _undone(named) if not overwrite else contextlib.nullcontext():
                for path, draft in zip(paths, drafts, strict=True):
                    if check is not None and path is paths[-1]:
                        check(draft.file)
                    _publish(draft, path, overwrite=overwrite)
                    named.append(path)
    except BaseException as error:
        remove_empty(made)
        if isinstance(error, FileExistsError):
            for path in paths:
                refuse_existing(path, overwrite=False)
        if isinstance(error, OSError):
            raise _cannot_write(paths, error, named) from error
        raise
    try:
        for folder in dict.fromkeys([path.parent for path in (*paths, *reversed(made))]):
            flush(folder)
    except OSError as error:
        raise UnconfirmedError(
            f"{paths[-1]} is there and whole, but the disk did not confirm it",
            got=error.strerror or str(error),
            expected="a disk that keeps what it is told to",
            todo="check the disk; after a power cut the file may be gone",
        ) from error


def _refuse_special(path: Path) -> None:
    """Raise if what would be replaced is a folder, a device or the like."""
    if found := "a folder" if path.is_dir() else special(path):
        raise InputError(
            f"cannot write {path}",
            got=f"{found}, which is not replaced",
            expected="the path of a file",
            todo="choose another path",
        )


@contextlib.contextmanager
def _undone(named: list[Path]) -> Iterator[None]:
    """Take back names that were free, and so are ours, if not all can be had."""
    try:
        yield
    except BaseException:
        for path in tuple(named):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
                named.remove(path)
        raise


# Seconds: others hold such a lock for as long as names take, or work in that run directory.
_WAIT = 60.0


@contextlib.contextmanager
def together(paths: Iterable[Path]) -> Iterator[None]:
    """Look at files and give them names while no other command does so in their folders.

    Raises:
        LockedError: If another command works in one of the folders for longer than a minute.
    """
    folders = {real(path.parent) for path in paths}
    with all_locked((folder for folder in folders if folder.is_dir()), wait=_WAIT):
        yield


def write_files(files: Mapping[Path, bytes], *, overwrite: bool = False) -> None:
    """Write files that belong together, the one that matters last; see `atomic_paths`.

    Those that are there already just so, as a killed command leaves them, stay.

    Args:
        files: Content by path.
        overwrite: Whether others may be there.

    Raises:
        TargetExistsError: If another one is there and ``overwrite`` is false.
        InputError: If a folder cannot be written or the disk is full.
    """
    with together(files):
        todo = [path for path, data in files.items() if not holds(path, data)]
        if not todo:
            return
        with atomic_paths(todo, overwrite=overwrite) as drafts:
            for path, draft in zip(todo, drafts, strict=True):
                draft.write_bytes(files[path])


class UnconfirmedError(InputError):
    """A file was written, but may be gone after a power cut."""


def _cannot_write(paths: Sequence[Path], error: OSError, done: Sequence[Path]) -> InputError:
    state = "what was there before still is"
    if done:
        state = f"{', '.join(file.name for file in done)} is new already, the others are not"
    return InputError(
        f"cannot write {' and '.join(map(str, paths))}",
        got=error.strerror or str(error),
        expected="a folder that can be written and a disk with room",
        todo=f"{state}; mend it and give the same command again",
    )


@dataclass(frozen=True)
class _Draft:
    """A file that is being written.

    Attributes:
        file: A path by which to write it.
        descriptor: The open file, locked.
        usual: The permissions that a new file gets here.
        named: Whether ``file`` is its name, beside the file that it is to be.
    """

    file: Path
    descriptor: int
    usual: int
    named: bool


@contextlib.contextmanager
def _draft(path: Path) -> Iterator[_Draft]:
    """An empty file on the file system of ``path``, without a name if that is possible."""
    _clear(path)
    named = False
    try:
        descriptor = os.open(path.parent, os.O_TMPFILE | os.O_RDWR, 0o666)
        file = Path(f"/proc/self/fd/{descriptor}")
        if not file.exists():  # without /proc it could get no name
            os.close(descriptor)
            raise OSError(errno.EOPNOTSUPP, "no /proc")
    except AttributeError:  # another system
        named = True
    except OSError as error:
        if error.errno not in _NO_NAMELESS:
            raise
        named = True
    if named:
        file, descriptor = _named(path)
    try:
        _hold(descriptor)  # before it gets a name
        usual = stat.S_IMODE(os.fstat(descriptor).st_mode)
        os.fchmod(descriptor, 0o600)
        yield _Draft(file, descriptor, usual, named)
    finally:
        if named:
            file.unlink(missing_ok=True)
        os.close(descriptor)


def _clear(path: Path) -> None:
    """Remove what killed processes left of a file half-written."""
    for left in _temporaries(path):
        if not os.path.lexists(left):
            break
        _sweep(left)


# What a file system without files that have no name says; old kernels open the folder itself.
_NO_NAMELESS = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)


def _named(path: Path) -> tuple[Path, int]:
    """Make and lock a file beside ``path``, under the first name of its own that is free."""
    for file in _temporaries(path):
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
            _hold(descriptor)
            with contextlib.suppress(FileNotFoundError):
                if file.stat().st_ino == os.fstat(descriptor).st_ino:
                    return file, descriptor
            os.close(descriptor)  # somebody has cleared it away before it was locked
    raise AssertionError("there is always another name")


def _publish(draft: _Draft, path: Path, *, overwrite: bool) -> None:
    """Give a draft its name; with ``overwrite`` in the place of what has it."""
    if not overwrite:
        _link(draft, path)
        return
    if draft.named:
        os.replace(draft.file, path)
        return
    for file in _temporaries(path):
        try:
            _link(draft, file)
        except FileExistsError:
            continue
        try:
            os.replace(file, path)
        except OSError:
            file.unlink(missing_ok=True)
            raise
        return


def _link(draft: _Draft, path: Path) -> None:
    """Give a file one more name, which must be free."""
    folder = os.open(path.parent, os.O_RDONLY)
    source = draft.file.absolute()  # or it would be looked for in that folder
    try:  # with a folder given, Python's link follows /proc/self/fd/N to the file itself
        os.link(source, path.name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=True)
    except OSError as error:
        if error.errno not in _NO_LINKS or not draft.named:
            raise
        # No second names here (FAT, some network file systems): the name is taken, then filled.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        os.replace(draft.file, path)
    finally:
        os.close(folder)


_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


def _temporaries(path: Path) -> Iterator[Path]:
    """Names beside ``path`` for what is being written; not longer than names may be.

    The same ones each time, so that whoever writes the same path finds what a kill has left.
    """
    for number in count():
        yield path.with_name(f"{_stem(path.name)}.{number}.tmp")


def _stem(name: str) -> str:
    return f".{os.fsdecode(os.fsencode(name)[:200])}"


def _hold(descriptor: int) -> None:
    """Show to others, for as long as it is open, that a file is being written."""
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _sweep(file: Path) -> None:
    """Remove a file that somebody began to write, unless they still do."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:  # gone by now, or somebody else's
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.unlink(missing_ok=True)
    except OSError:  # it is being written, or that cannot be told here
        pass
    finally:
        os.close(descriptor)


def remove_temporary(folder: Path, name: str = "") -> None:
    """Remove what a killed process left of a file (of any, or of ``name``) half-written."""
    for path in folder.glob(f"{glob.escape(_stem(name))}*.tmp"):
        _sweep(path)


def sweep_all(folder: Path) -> None:
    """Remove what killed processes left half-written anywhere in a run directory."""
    for path in folder.rglob(".*.[0-9].tmp"):
        _sweep(path)


def holds(path: Path, data: bytes) -> bool:
    """Whether a file is there already with just these bytes, as a killed command leaves it."""
    if not path.is_file() or path.stat().st_size != len(data) or path.read_bytes() != data:
        return False
    settle(path)
    return True


def settle(path: Path) -> None:
    """Finish what a killed command has not done for a file that is whole already."""
    _clear(path)
    flush(path)
    flush(path.parent)


def digest(value: object) -> str:
    """SHA-256 of JSON data in canonical form."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(encoded(text)).hexdigest()


def encoded(text: str) -> bytes:
    """A text of ours in UTF-8.

    Raises:
        InputError: If there is a name of a file in it that is not.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        around = text[max(0, error.start - 40) : error.end + 20]
        raise InputError(
            "a name is not in UTF-8, so that it cannot be recorded",
            got=" ".join(around.encode(errors="backslashreplace").decode().split()),
            expected="names of files and folders in UTF-8",
            todo="rename it, or give a path without it",
        ) from error


def flush(path: Path) -> None:
    """Have the disk confirm a file's bytes, or a folder's names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str, *, overwrite: bool = False) -> None:
    """Write ``text`` as UTF-8, whole or not at all (see `atomic_path` for what it raises)."""
    data = encoded(text)
    with atomic_path(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: object, *, overwrite: bool = False) -> None:
    """Write ``value`` as indented JSON, whole or not at all (see `atomic_path`)."""
    write_text(path, json_text(value), overwrite=overwrite)


def json_text(value: object) -> str:
    """``value`` as the text of one of our JSON files."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


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
    like: Path | None = None,
) -> None:
    """Write arrays and JSON metadata as one safetensors file (see `atomic_paths`).

    Unless it is not to be ``sealed`` (a model, whose rows a patch changes), the metadata holds a
    hash of both, by which `read_tensors` knows a changed byte.
    """
    data = tensors_as_bytes(tensors, metadata, sealed=sealed)
    # Not by save_file, which makes a temporary file of its own that a kill would leave behind.
    with atomic_path(path, overwrite=overwrite, like=like) as temporary:
        temporary.write_bytes(data)


def tensors_as_bytes(
    tensors: Mapping[str, Array], metadata: Mapping[str, Any], *, sealed: bool = True
) -> bytes:
    """The bytes of the file that `write_tensors` writes."""
    from safetensors.numpy import save

    # NumPy makes numbers (no axes) into arrays of one axis; they must come back as they were.
    contiguous = {
        name: np.ascontiguousarray(array).reshape(array.shape) for name, array in tensors.items()
    }
    seal = {_CONTENT: _content(contiguous, metadata)} if sealed else {}
    text = json.dumps({**metadata, **seal}, sort_keys=True, ensure_ascii=False, allow_nan=False)
    encoded(text)  # or the library fails
    return bytes(save(contiguous, metadata={METADATA_KEY: text}))


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

    require_file(path, "a safetensors file")
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
