"""Files at addresses such as ``s3://bucket/key`` and ``https://host/file``, read through fsspec.

One place for all of it: what is an address, reading a file with another try where the connection
breaks, listing a folder, and copies in a cache of bounded size for what must lie on a disk (models,
lists, archives). A copy is made whole or not at all, and is known by the version (ETag, size, time)
that the server tells, so that a file that has changed there is fetched anew.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from alphafix.errors import InputError, MissingPackageError
from alphafix.files import atomic_path, sha256_file
from alphafix.locks import locked

logger = logging.getLogger(__name__)

Found = TypeVar("Found")

# A scheme of two letters or more: "C:/" is a drive. Paths lose the second slash.
_ADDRESS = re.compile(r"^([a-z][a-z0-9+.-]+):(//?)(?=[^/])", re.IGNORECASE)

# Tries of a read, and seconds before the second one, which double with each.
TRIES = 5
FIRST_WAIT = 0.5

# Clients that would try again by themselves, times and times over, before we are told.
_S3 = {"config_kwargs": {"retries": {"mode": "standard", "total_max_attempts": 1}}}
_OPTIONS: dict[str, dict[str, Any]] = {"s3": _S3, "s3a": _S3}

# Bytes a request: what a broken connection costs at most.
PIECE = 16 << 20

# What the cache may hold, in GiB, unless ALPHAFIX_CACHE_GIB says otherwise.
MOST_GIB = 50.0

# Seconds to wait for another process that fetches the same file.
_PATIENCE = 24 * 3600.0


@dataclass(frozen=True)
class Entry:
    """A file at an address.

    Attributes:
        address: Its address.
        size: Its bytes, or None where the server does not say.
        version: What changes when it does: ETag, time or size; "" where the server says nothing.
    """

    address: str
    size: int | None
    version: str


def is_address(place: str | os.PathLike[str]) -> bool:
    """Whether a text or path is the address of something elsewhere."""
    text = os.fspath(place)
    match = _ADDRESS.match(text)
    if match is None:
        return False
    return match[2] == "//" or (isinstance(place, os.PathLike) and not os.path.exists(text))


def address_of(place: str | os.PathLike[str]) -> str:
    """The address, with both its slashes, which `Path` takes for one."""
    return _ADDRESS.sub(r"\1://", os.fspath(place), count=1)


def name_of(address: str) -> str:
    """The last part of an address, without what follows a question mark."""
    return PurePosixPath(address.partition("?")[0]).name


def beside(address: str) -> str:
    """The address of the folder that something lies in."""
    return address.partition("?")[0].rpartition("/")[0]


@functools.cache
def _system(pid: int, scheme: str) -> Any:
    """The file system of a scheme; one a process, for connections do not outlive a fork."""
    try:
        import fsspec
    except ImportError as error:
        raise _missing("fsspec", scheme) from error
    try:
        system = fsspec.filesystem(scheme, skip_instance_cache=True, **_OPTIONS.get(scheme, {}))
        if scheme in _OPTIONS:
            system.retries = 1
        return system
    except (ImportError, ValueError) as error:
        raise _missing(str(error).splitlines()[0], scheme) from error


def _missing(got: str, scheme: str) -> MissingPackageError:
    return MissingPackageError(
        f"reading {scheme}:// addresses needs packages that are not installed",
        got=got,
        expected="fsspec with what it needs for this kind of address",
        todo="pip install 'alphafix[remote]' (for gs:// also gcsfs), or copy the files",
    )


def _open(address: str) -> tuple[Any, str]:
    """File system and path of an address."""
    scheme = address.partition("://")[0].lower()
    system = _system(os.getpid(), scheme)
    return system, system._strip_protocol(address)


def _gone(error: Exception) -> bool:
    """Whether an error says that something is not there, or not for us: trying again is no use."""
    return isinstance(error, FileNotFoundError | PermissionError | MissingPackageError)


def _tried(address: str, what: str, work: Callable[[], Found]) -> Found:
    """Do it, and again if the connection breaks.

    Raises:
        InputError: If it is not there, or all tries fail.
    """
    wait = FIRST_WAIT
    for left in range(TRIES - 1, -1, -1):
        try:
            return work()
        except MissingPackageError:
            raise
        except Exception as error:  # of many types: aiohttp's, botocore's, ssl's
            if _gone(error) or left == 0:
                raise InputError(
                    f"{address} cannot be {what}",
                    got=f"{type(error).__name__}: {error}".splitlines()[0][:300],
                    expected="a file that can be read with the credentials that are set here",
                    todo="check the address, the credentials and the connection"
                    + ("" if _gone(error) else f" ({TRIES} tries were made)"),
                ) from error
            logger.warning("%s: %s: another try in %.1f s", address, type(error).__name__, wait)
            time.sleep(wait)
            wait *= 2
            _system.cache_clear()
    raise AssertionError  # the loop returns or raises


def entry(address: str) -> Entry:
    """What the server says of a file.

    Raises:
        InputError: If it is not there or cannot be asked.
    """

    def ask() -> Entry:
        system, path = _open(address)
        system.invalidate_cache(system._parent(path))
        return _entry(address, system.info(path))

    return _tried(address, "found", ask)


def _entry(address: str, info: dict[str, Any]) -> Entry:
    told = [info.get(name) for name in ("ETag", "etag", "md5Hash", "LastModified", "mtime")]
    version = next((str(value) for value in told if value is not None), "")
    size = info.get("size")
    return Entry(address, None if size is None else int(size), version.strip('"'))


def exists(address: str) -> bool:
    """Whether there is a file or a folder."""
    system, path = _open(address)
    return _tried(address, "found", lambda: bool(system.exists(path)))


def entries(address: str) -> list[Entry]:
    """All files below a folder, in the order of their paths."""

    def ask() -> list[Entry]:
        system, path = _open(address)
        system.invalidate_cache()
        found = system.find(path, detail=True)
        base = path.rstrip("/")
        below = address.rstrip("/")
        return [
            _entry(below + name[len(base) :], info)
            for name, info in sorted(found.items())
            if name.startswith(f"{base}/") and info.get("type") != "directory"
        ]

    return _tried(address, "listed", ask)


def read(address: str) -> bytes:
    """A whole file.

    Raises:
        InputError: If it cannot be read.
    """

    def ask() -> bytes:
        system, path = _open(address)
        found: bytes = system.cat_file(path)
        return found

    return _tried(address, "read", ask)


def _pieces(known: Entry) -> Iterator[bytes]:
    """A file in pieces, each asked for again by itself if the connection breaks."""
    if known.size is None:
        yield read(known.address)
        return
    for start in range(0, known.size, PIECE):
        stop = min(start + PIECE, known.size)

        def ask(start: int = start, stop: int = stop) -> bytes:
            system, path = _open(known.address)
            found: bytes = system.cat_file(path, start=start, end=stop)
            if len(found) != stop - start:
                raise OSError(f"{len(found)} of {stop - start} bytes came")
            return found

        yield _tried(known.address, "read", ask)


def cache_folder() -> Path:
    """Where copies lie: ALPHAFIX_CACHE, or alphafix in the user's cache."""
    given = os.environ.get("ALPHAFIX_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alphafix"


def fetched(address: str, known: Entry | None = None) -> Path:
    """A copy of a file on this machine, fetched unless it is there; one process does that.

    Raises:
        InputError: If it cannot be read, or has changed while it was.
    """
    known = known or entry(address)
    key = hashlib.sha256(f"{address}\n{known.size}\n{known.version}".encode()).hexdigest()[:32]
    folder = cache_folder() / key
    path, note = folder / (name_of(address) or "file"), folder / ".sha256.json"
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, wait=_PATIENCE):
        if _is_whole(path, note):
            with contextlib.suppress(OSError):
                os.utime(folder)
            return path
        _make_room(known.size or 0, folder)
        digest, size = hashlib.sha256(), 0
        with atomic_path(path, overwrite=True) as draft, draft.open("wb") as file:
            for piece in _pieces(known):
                file.write(piece)
                digest.update(piece)
                size += len(piece)
        now = entry(address)
        if (now.size, now.version) != (known.size, known.version):
            path.unlink()
            raise InputError(
                f"{address} has changed while it was read",
                got=f"{now.size} bytes, version {now.version}",
                expected=f"{known.size} bytes, version {known.version}",
                todo="give the command again",
            )
        found = path.stat()
        marks = [found.st_size, found.st_mtime_ns, found.st_ino]
        with atomic_path(note, overwrite=True) as draft:
            draft.write_text(json.dumps({"sha256": digest.hexdigest(), "marks": marks}))
    return path


def _is_whole(path: Path, note: Path) -> bool:
    """Whether a copy is as it was fetched: by its marks, or by its hash where these are others."""
    try:
        data, found = json.loads(note.read_text()), path.stat()
        if data["marks"] == [found.st_size, found.st_mtime_ns, found.st_ino]:
            return True
        return bool(data["sha256"] == sha256_file(path))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _make_room(size: int, own: Path) -> None:
    """Remove the copies that were used longest ago, so that one more fits into the cache."""
    most = float(os.environ.get("ALPHAFIX_CACHE_GIB") or MOST_GIB) * 2**30
    copies = []
    for folder in cache_folder().glob("*/"):
        with contextlib.suppress(OSError):
            held = sum(file.stat().st_size for file in folder.iterdir())
            copies.append((folder.stat().st_mtime, held, folder))
    total = sum(held for _, held, _ in copies) + size
    for _, held, folder in sorted(copies):
        if total <= most:
            return
        if folder != own:
            with contextlib.suppress(OSError):
                for file in folder.iterdir():
                    file.unlink()
                folder.rmdir()
                total -= held
