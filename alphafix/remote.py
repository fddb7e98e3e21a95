"""Files at addresses such as ``s3://bucket/key`` and ``https://host/file``, through fsspec.

One place for all of it: what is an address, reading a file with another try where the connection
breaks, listing a folder, writing a file, and copies in a cache of bounded size for what must lie on
a disk (models, lists, archives). A copy is made whole or not at all, and is known by the version
(ETag, size, time) that the server tells, so that a file that has changed there is fetched anew.
Nothing that fsspec remembers of folders and files is asked: each answer is the server's of now.
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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from alphafix.errors import InputError, MissingPackageError, option
from alphafix.files import atomic_path, sha256_file
from alphafix.locks import locked

logger = logging.getLogger(__name__)

Found = TypeVar("Found")

# A scheme of two letters or more: "C:/" is a drive. Paths lose the second slash.
_ADDRESS = re.compile(r"^([a-z][a-z0-9+.-]+):(//?)(?=[^/])", re.IGNORECASE)

# What fsspec has for files of this machine, which are paths, and for what ends with the process.
_HERE = ("file", "local", "memory")

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

# Addresses of web servers: they list no folders, and nothing is written there.
_WEB = ("http", "https")

# What a web server answers that may be otherwise in a moment, of the codes that blame the asker.
_PASSING = (408, 425, 429)

# What it answers where there is no file: some say "forbidden" of all that is not public.
_NOT_THERE = (401, 403, 404, 410)

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


def as_given(place: str | os.PathLike[str]) -> str:
    """A path or an address as a person writes it."""
    return address_of(place) if is_address(place) else os.fspath(place)


def name_of(address: str) -> str:
    """The last part of an address, without what follows a question mark."""
    return PurePosixPath(address.partition("?")[0]).name


def beside(address: str) -> str:
    """The address of the folder that something lies in."""
    return address.partition("?")[0].rpartition("/")[0]


def _scheme(address: str) -> str:
    return address.partition("://")[0].lower()


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
    system = _system(os.getpid(), _scheme(address))
    return system, system._strip_protocol(address)


class _PartsUnknownError(Exception):
    """The server gives a file as a whole only."""


def _real(error: Exception) -> Exception:
    """What went wrong: fsspec says "not found" of whatever a web server or the way to it did."""
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and isinstance(cause, Exception):
        if type(cause).__module__.partition(".")[0] in ("aiohttp", "asyncio", "ssl"):
            return cause
        if isinstance(cause, OSError):
            return cause
    return error


def _status(error: Exception) -> int | None:
    """What a web server has answered, if it did."""
    found = getattr(_real(error), "status", None)
    return found if isinstance(found, int) else None


def _gone(error: Exception) -> bool:
    """Whether an error says that something is not there, or not for us: trying again is no use."""
    import ssl

    status = _status(error)
    if status is not None:
        return 400 <= status < 500 and status not in _PASSING
    return isinstance(_real(error), FileNotFoundError | PermissionError | ssl.CertificateError)


def _tried(address: str, what: str, work: Callable[[], Found]) -> Found:
    """Do it, and again if the connection breaks.

    Raises:
        InputError: If it is not there, or all tries fail.
    """
    expected = "written" if what == "written" else "read"
    wait = FIRST_WAIT
    for left in range(TRIES - 1, -1, -1):
        try:
            return work()
        except (MissingPackageError, _PartsUnknownError):
            raise
        except Exception as error:  # of many types: aiohttp's, botocore's, ssl's
            if _gone(error) or left == 0:
                real = _real(error)
                raise InputError(
                    f"{address} cannot be {what}",
                    got=f"{type(real).__name__}: {real}".splitlines()[0][:300],
                    expected=f"what can be {expected} with the credentials that are set here",
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
        system.invalidate_cache()
        return _entry(address, system.info(path))

    return _tried(address, "found", ask)


# What servers say of a file that is another when its bytes are, the best first.
_VERSIONS = ("ETag", "etag", "md5Hash", "Content-MD5", "LastModified", "Last-Modified", "mtime")


def _entry(address: str, info: dict[str, Any]) -> Entry:
    told = [info.get(name) for name in _VERSIONS]
    version = next((str(value) for value in told if value is not None), "")
    size = info.get("size")
    return Entry(address, None if size is None else int(size), version.strip('"'))


def exists(address: str) -> bool:
    """Whether there is a file or a folder (see `entry_if_any`)."""
    return entry_if_any(address) is not None


def entry_if_any(address: str) -> Entry | None:
    """What the server says of a file or folder, or None if there is none.

    Raises:
        InputError: If that cannot be told: a server that fails does not say "no".
    """

    def ask() -> Entry | None:
        system, path = _open(address)
        system.invalidate_cache()
        try:
            return _entry(address, system.info(path))
        except Exception as error:
            gone = isinstance(_real(error), FileNotFoundError)
            if _status(error) in _NOT_THERE or (gone and _status(error) is None):
                return None
            raise

    return _tried(address, "found", ask)


def can_list(address: str) -> bool:
    """Whether folders there can be listed."""
    return _scheme(address) not in _WEB


def entries(address: str) -> list[Entry]:
    """All files below a folder, in the order of their paths.

    Raises:
        InputError: If it cannot be listed, as on a web server.
    """
    if not can_list(address):
        raise InputError(
            f"the folder {address} cannot be listed",
            got="the address of a web server, which lists no files",
            expected="a list or archives there, or a folder at s3:// or gs://",
            todo=f"give {option('data', 'https://HOST/{split}.txt')}, a list of the images, or "
            "archives (https://HOST/{split}-{000..146}.tar), or copy the folder",
        )

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


def _piece(known: Entry, start: int, stop: int) -> bytes:
    """Some bytes of a file.

    Raises:
        _PartsUnknownError: If the server gives the whole file only.
    """

    def ask() -> bytes:
        system, path = _open(known.address)
        if _scheme(known.address) in _WEB:
            # This looks at the answer before it reads more than was asked for.
            with system.open(path, block_size=PIECE, cache_type="none", size=known.size) as file:
                try:
                    file.seek(start)
                    found: bytes = file.read(stop - start)
                except ValueError as error:
                    raise _PartsUnknownError from error
        else:
            found = system.cat_file(path, start=start, end=stop)
        if len(found) != stop - start:
            raise OSError(f"{len(found)} of {stop - start} bytes came")
        return found

    return _tried(known.address, "read", ask)


def _download(known: Entry, draft: Path) -> str:
    """Write a file to a path, and return its SHA-256.

    It comes in pieces, each asked for again by itself if the connection breaks, or as a whole where
    the server gives no pieces.
    """
    digest = hashlib.sha256()
    try:
        if known.size is None:
            raise _PartsUnknownError
        with draft.open("wb") as file:
            for start in range(0, known.size, PIECE):
                piece = _piece(known, start, min(start + PIECE, known.size))
                file.write(piece)
                digest.update(piece)
        return digest.hexdigest()
    except _PartsUnknownError:
        _tried(known.address, "read", lambda: _whole(known, draft))
        return sha256_file(draft)


def _whole(known: Entry, draft: Path) -> None:
    system, path = _open(known.address)
    system.get_file(path, str(draft))
    size = draft.stat().st_size
    if known.size is not None and size != known.size:
        raise OSError(f"{size} of {known.size} bytes came")


def download(address: str, path: Path) -> str:
    """Write a file to a path, whole or not at all, and return its SHA-256.

    Raises:
        InputError: If it cannot be read.
    """
    with atomic_path(path, overwrite=True) as draft:
        return _download(entry(address), draft)


def write(address: str, data: bytes) -> None:
    """Write a small file, whole or not at all (see `put`)."""

    def ask() -> None:
        system, path = _open(address)
        system.pipe_file(path, data)

    require_store(address)
    _tried(address, "written", ask)
    if read(address) != data:
        raise _not_as_written(address)


def put(path: Path, address: str) -> None:
    """Write a file to an address: on an object store it is there whole or not at all.

    Raises:
        InputError: If it cannot be written, or is not there afterwards.
    """

    def ask() -> None:
        system, place = _open(address)
        system.put_file(str(path), place)

    require_store(address)
    _tried(address, "written", ask)
    if entry(address).size != path.stat().st_size:
        raise _not_as_written(address)


def require_store(address: str) -> None:
    """Check that something can be written at an address.

    Raises:
        InputError: If it is one of a web server, or of this machine or process alone.
    """
    scheme = _scheme(address)
    if scheme in (*_WEB, *_HERE):
        raise InputError(
            f"nothing can be written to {address}",
            got="the address of a web server" if scheme in _WEB else f"{scheme}:, which is here",
            expected="the address of an object store (s3://, gs://), or a path",
            todo="give one",
        )


def _not_as_written(address: str) -> InputError:
    return InputError(
        f"{address} is not what was written there",
        got="another size or other bytes",
        expected="one command at a time that writes there",
        todo="give the command again",
    )


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
    # Of what has no version nobody knows whether it has changed since an earlier command.
    may_stay = bool(known.version) or (address, known) in _fetched
    key = hashlib.sha256(f"{address}\n{known.size}\n{known.version}".encode()).hexdigest()[:32]
    folder = cache_folder() / key
    path, note = folder / (name_of(address) or "file"), folder / ".sha256.json"
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, wait=_PATIENCE):
        if may_stay and _is_whole(path, note):
            with contextlib.suppress(OSError):
                os.utime(folder)
            return path
        _make_room(known.size or 0, folder)
        with atomic_path(path, overwrite=True) as draft:
            digest = _download(known, draft)
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
            draft.write_text(json.dumps({"sha256": digest, "marks": marks}))
        _fetched.add((address, known))
    return path


# What this process has fetched.
_fetched: set[tuple[str, Entry]] = set()


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
    for folder in cache_folder().glob(f"{'[0-9a-f]' * 32}/"):
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
