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
import inspect
import json
import logging
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from alphafix.errors import AlphafixError, InputError, MissingPackageError, option
from alphafix.files import atomic_path, sha256_file
from alphafix.locks import if_free, locked
from alphafix.shown import HIDDEN, without_secrets

logger = logging.getLogger(__name__)

Found = TypeVar("Found")

# A scheme of two letters or more: "C:/" is a drive. Paths lose the second slash.
_ADDRESS = re.compile(r"^([a-z][a-z0-9+.-]+):(//?)(?=[^/])", re.IGNORECASE)

# What begins like an address and is none: too few slashes, too many, or nothing behind them.
_NO_ADDRESS = re.compile(r"^([a-z][a-z0-9+.-]+):/", re.IGNORECASE)

# A home folder at the beginning of a path, which may stand behind what else a value says.
_HOME = re.compile("^([^~:=]*=|[^/~:=]*:)?(~[^/]*)(.*)$", re.DOTALL)

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

# What says, beside a whole copy, how it was fetched.
_NOTE = ".sha256.json"

# What folders in the cache are called that go with the command that has made them.
_PASSING_FOLDER = "passing-"

# What the cache may hold, in GiB, unless ALPHAFIX_CACHE_GIB says otherwise.
MOST_GIB = 50.0

# Addresses of web servers: they list no folders, and nothing is written there.
_WEB = ("http", "https")

# What a web server answers that may be otherwise in a moment, of the codes that blame the asker.
_PASSING = (408, 425, 429)

# What servers answer to those who ask too often (RFC 6585), and S3 and its like in words.
_TOO_MANY = 429
_TOO_OFTEN = {"SlowDown", "Throttling", "ThrottlingException", "TooManyRequests"}
_TOO_OFTEN |= {"TooManyRequestsException", "RequestLimitExceeded"}

# Seconds that a server may ask to wait before the next try.
_LONGEST_WAIT = 60.0

# What servers answer of what is not there, and to those who may not have it.
_GONE = (404, 410)
_REFUSED = (401, 403)

# Errors of clients that got no answer, or half of one, by the names of their classes: of Python and
# botocore, of aiohttp, of botocore alone. Those of TLS are among them, and have words of their own.
_NO_ANSWER = {"ConnectionError", "TimeoutError", "ClientConnectionError", "ClientPayloadError"}
_NO_ANSWER |= {"ConnectionClosedError", "ReadTimeoutError"}
_NO_TRUST = {"SSLError"}

# What S3 answers to a message that came through damaged or in part, with a code that blames us.
_DAMAGED = ("BadDigest", "IncompleteBody", "InvalidDigest", "XAmzContentSHA256Mismatch")

# Errors of clients without what they need to ask at all, by their names.
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError")
_NOT_SET_UP = (*_NO_CREDENTIALS, "ProfileNotFound", "ConfigParseError", "ParamValidationError")

# The object that `require_writable` writes and removes.
_PROBE = ".may-be-written"

# Seconds to wait for another process that fetches the same file.
_PATIENCE = 24 * 3600.0


class _Cause(Enum):
    """Why something cannot be read or written."""

    GONE = auto()
    REFUSED = auto()
    BUSY = auto()
    FAILING = auto()
    SILENT = auto()
    OTHER = auto()


# How a sentence ends that says so.
_BECAUSE = {
    _Cause.REFUSED: ": access is refused",
    _Cause.BUSY: ": the store asks to slow down",
    _Cause.FAILING: ": the server fails",
    _Cause.SILENT: ": the server does not answer",
}


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
    """Whether a text or path is the address of something elsewhere.

    Raises:
        InputError: If a text begins like an address and is none: ``s3:/bucket``, ``s3:///key``. (A
            `Path` has one slash in any case.)
    """
    text = os.fspath(place)
    match = _ADDRESS.match(text)
    if match is None and (bare := _ADDRESS.match(text.strip())) is not None and bare[2] == "//":
        raise InputError(
            f"{text!r} is neither an address nor a path",
            got="white space before an address",
            expected="nothing before it",
            todo=f"give {text.strip()}",
        )
    if isinstance(place, os.PathLike):
        return match is not None and (match[2] == "//" or not os.path.exists(text))
    if match is not None and match[2] == "//":
        return True
    if (begun := _NO_ADDRESS.match(text)) is not None:
        raise _no_address(text, begun[1].lower())
    return False


def named(text: str) -> Path:
    """The path that a text names, which may be that of an address (see `is_address`).

    Raises:
        InputError: If it begins like an address and is none, or its home folder is nobody's.
    """
    is_address(text)
    return Path(at_home(text))


def home_path(path: str | os.PathLike[str]) -> Path:
    """A path that a caller of the Python API gives, in which ``~`` is the home folder, as ever.

    A `Path` has lost the ``./`` of what is called ``~`` itself: where that is here, it is meant.

    Raises:
        InputError: See `named`.
    """
    if isinstance(path, str):
        return named(path)
    found = Path(path)
    first = found.parts[0] if found.parts else ""
    meant = first.startswith("~") and not os.path.lexists(first)
    return Path(at_home(str(found))) if meant else found


def at_home(text: str) -> str:
    """A path in which ``~`` and ``~name`` are home folders, as a shell has it where it stands bare.

    Behind ``SPLIT=`` and ``KIND:`` too. What is called so itself is ``./~``.

    Raises:
        InputError: If nobody has that name, and no folder here is called so.
    """
    match = _HOME.match(text)
    if match is None:
        return text
    before, home, below = match[1] or "", match[2], match[3]
    found = os.path.expanduser(home)
    if found == home and below and not os.path.isdir(home):
        raise InputError(
            f"{text} names a home folder that is not known",
            got=home,
            expected="~ or ~NAME of a user of this machine",
            todo=f"write the path out, or {before}./{home}{below} if a folder here is called so",
        )
    return f"{before}{found}{below}"


def _no_address(text: str, scheme: str) -> InputError:
    """The error of what begins like an address and is none."""
    behind = text[len(scheme) + 1 :]
    rest = behind.lstrip("/")
    count = len(behind) - len(rest)
    if scheme in _HERE:
        todo = f"give the path itself: /{rest}"
    else:
        meant = f"{scheme}://{'BUCKET/' if count > 1 else ''}{rest or 'KEY'}"
        todo = f"give {meant}, or ./{text} if a folder here is called {scheme}:"
    return InputError(
        f"{text} is neither an address nor a path",
        got={1: "one slash", 2: "two slashes with nothing behind them"}.get(
            count, f"{count} slashes"
        ),
        expected="two slashes and a name behind them, as in s3://bucket/key, or a path",
        todo=todo,
    )


def address_of(place: str | os.PathLike[str]) -> str:
    """The address, with both its slashes, which `Path` takes for one, and its scheme in lower case.

    Case says nothing in a scheme (RFC 3986, section 3.1).
    """
    return _ADDRESS.sub(lambda match: f"{match[1].lower()}://", os.fspath(place), count=1)


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
        options = _OPTIONS.get(scheme, {})
        # Some want to know a host; one that is begun without leaves an error when it is forgotten.
        inspect.signature(fsspec.get_filesystem_class(scheme).__init__).bind(None, **options)
        system = fsspec.filesystem(scheme, skip_instance_cache=True, **options)
        if scheme in _OPTIONS:
            system.retries = 1
        return system
    except ImportError as error:
        raise _missing(str(error).splitlines()[0], scheme) from error
    except (TypeError, ValueError) as error:  # it wants to know more, or there is no such scheme
        raise InputError(
            f"{scheme}:// addresses cannot be used",
            got=str(error).splitlines()[0],
            expected="s3://, gs://, https:// or another that needs no more than the address",
            todo="copy the files, or correct the address",
        ) from error


def _missing(got: str, scheme: str) -> MissingPackageError:
    return MissingPackageError(
        f"reading {scheme}:// addresses needs packages that are not installed",
        got=got,
        expected="fsspec with what it needs for this kind of address",
        todo="pip install 'alphafix[remote]' (for gs:// also gcsfs), or copy the files",
    )


def _open(address: str) -> tuple[Any, str]:
    """File system and path of an address."""
    address = address_of(address)
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


def _code(error: Exception) -> int | None:
    """What a web server or S3 has answered, if it did."""
    told = _s3_answer(_real(error)).get("ResponseMetadata", {})
    return _status(error) or told.get("HTTPStatusCode")


def _too_often(error: Exception) -> bool:
    """Whether a server has answered that it is asked too often."""
    said = _s3_answer(_real(error)).get("Error", {}).get("Code")
    # gcsfs has it as an attribute, perhaps as text; that of aiohttp warns whoever looks.
    codes = (_code(error), vars(_real(error)).get("code"))
    return said in _TOO_OFTEN or str(_TOO_MANY) in map(str, codes)


def _asked_to_wait(error: Exception) -> float:
    """Seconds that a server has asked to wait (RFC 9110, section 10.2.3), within limits; or 0."""
    real = _real(error)
    told = _s3_answer(real).get("ResponseMetadata", {}).get("HTTPHeaders")
    headers = getattr(real, "headers", None) or told or {}
    try:
        wait = float(headers.get("Retry-After") or headers.get("retry-after") or 0)
    except (AttributeError, ValueError):  # a date, say
        return 0.0
    return min(wait, _LONGEST_WAIT) if wait > 0 else 0.0


def _cause(error: Exception) -> _Cause:
    """Why it went wrong: only a server that says so has nothing there."""
    real, code = _real(error), _code(error)
    if code in _GONE or (code is None and isinstance(real, FileNotFoundError)):
        return _Cause.GONE
    if code in _REFUSED or isinstance(real, PermissionError):
        return _Cause.REFUSED
    if _too_often(error):
        return _Cause.BUSY
    if code is not None and code >= 500:
        return _Cause.FAILING
    names = {kind.__name__ for kind in type(real).__mro__}
    if names & _NO_ANSWER and not names & _NO_TRUST:
        return _Cause.SILENT
    return _Cause.OTHER


def _final(error: Exception) -> bool:
    """Whether trying again is no use: it is not there, or not for us, or cannot be asked so."""
    import ssl

    if _too_often(error):
        return False
    status = _status(error)
    if status is not None:
        return 400 <= status < 500 and status not in _PASSING
    real = _real(error)
    if isinstance(real, FileNotFoundError | PermissionError | ssl.CertificateError):
        return True
    if type(real).__name__ in _NOT_SET_UP or _is_refused(real):
        return True
    # What a client says of what it was given; but an answer that was cut is no JSON and no text.
    cut = isinstance(real, json.JSONDecodeError | UnicodeError)
    return isinstance(real, TypeError | ValueError) and not cut


def _is_refused(error: Exception) -> bool:
    """Whether S3 has answered that the request is wrong, whatever s3fs makes of that."""
    answer = _s3_answer(error)
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    passing = status in (*_PASSING, 409) or answer.get("Error", {}).get("Code") in _DAMAGED
    return 400 <= status < 500 and not passing


def _s3_answer(error: Exception) -> dict[str, Any]:
    """What S3 has answered, if it did, whatever s3fs makes of that."""
    answer = getattr(error.__cause__ or error, "response", None)
    return answer if isinstance(answer, dict) else {}


def _failed(address: str, what: str, error: Exception, tries: str) -> InputError:
    """The error of an address: what was not done, why, and what a person can do about it."""
    real, cause = _real(error), _cause(error)
    if what == "found" and cause is not _Cause.GONE:
        what = "looked up"  # who does not answer says nothing of what is there
    doing = what if what in ("written", "removed") else "read"
    expected = f"what can be {doing} with the credentials that are set here"
    if cause in (_Cause.FAILING, _Cause.SILENT):
        expected = "a server that answers"
    if cause is _Cause.BUSY:
        expected = "a server that answers, asked less often"
    return InputError(
        f"{address} cannot be {what}{_BECAUSE.get(cause, '')}",
        got=f"{type(real).__name__}: {real}".splitlines()[0][:300],
        expected=expected,
        todo=_advice(address, what, real, cause) + tries,
    )


def _advice(address: str, what: str, error: Exception, cause: _Cause) -> str:
    """What a person can do where something cannot be read or written."""
    if HIDDEN in address:
        return "give the address again, whole: its secret parts are written down nowhere"
    if type(error).__name__ in _NO_CREDENTIALS:
        return (
            "set credentials: AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, for "
            "s3://; GOOGLE_APPLICATION_CREDENTIALS for gs://"
        )
    if cause is _Cause.GONE:
        return f"{'make the bucket first, or ' if what == 'written' else ''}correct the address"
    if cause is _Cause.REFUSED:
        if _scheme(address) in _WEB:
            return "correct the address (some say so of what is not there), or copy the file"
        if what in ("written", "removed"):
            begin = "let these credentials write there"
        else:  # to who may not list, S3 says so of what is not there
            begin = "let these credentials read and list there"
        return f"{begin}, set others, or correct the address"
    if cause is _Cause.BUSY:
        return (
            "wait a while and give the command again, with fewer jobs or loading processes at once"
        )
    if cause is _Cause.FAILING:
        return "give the command again later, or ask who runs the server"
    if cause is _Cause.SILENT:
        return "check the connection and the address"
    return "check the address, the credentials and the connection"


def _tried(address: str, what: str, work: Callable[[], Found]) -> Found:
    """Do it, and again if the connection breaks.

    Raises:
        InputError: If it is not there, or all tries fail.
    """
    wait = FIRST_WAIT
    for left in range(TRIES - 1, -1, -1):
        try:
            return work()
        except (AlphafixError, _PartsUnknownError):
            raise
        except Exception as error:  # of many types: aiohttp's, botocore's, ssl's
            final = _final(error)
            if final or left == 0:
                tries = "" if final else f" ({TRIES} tries were made)"
                raise _failed(address, what, error, tries) from error
            why = _BECAUSE.get(_cause(error)) or f": {type(_real(error)).__name__}"
            pause = max(wait, _asked_to_wait(error))
            known = without_secrets(address)
            logger.warning("%s%s: another try in %.1f s", known, why, pause)
            time.sleep(pause)
            wait *= 2
            _system.cache_clear()
    raise AssertionError  # the loop returns or raises


def entry(address: str) -> Entry:
    """What the server says of a file.

    Raises:
        InputError: If it is not there or cannot be asked, or is a folder.
    """

    def ask() -> Entry:
        system, path = _open(address)
        system.invalidate_cache()
        info = system.info(path)
        if info.get("type") == "directory":
            raise InputError(
                f"{address} is a folder",
                expected="the address of a file",
                todo="give that of a file in it",
            )
        return _entry(address, info)

    return _tried(address, "found", ask)


# What servers say of a file that is another when its bytes are, the best first.
_VERSIONS = ("ETag", "etag", "md5Hash", "Content-MD5", "LastModified", "Last-Modified", "mtime")


def _entry(address: str, info: dict[str, Any]) -> Entry:
    told = [info.get(name) for name in _VERSIONS]
    version = next((str(value) for value in told if value is not None), "")
    size = info.get("size")
    return Entry(address, None if size is None else int(size), version.strip('"'))


def exists(address: str, *, hidden: bool = False) -> bool:
    """Whether there is a file or a folder (see `entry_if_any`)."""
    return entry_if_any(address, hidden=hidden) is not None


def entry_if_any(address: str, *, hidden: bool = False) -> Entry | None:
    """What the server says of a file or folder, or None if there is none.

    Args:
        address: Its address.
        hidden: Whether what a web server refuses counts as not there: some say "forbidden" of all
            that is not public.

    Raises:
        InputError: If that cannot be told: a server that fails or refuses does not say "no".
    """

    def ask() -> Entry | None:
        system, path = _open(address)
        system.invalidate_cache()
        try:
            return _entry(address, system.info(path))
        except Exception as error:
            cause = _cause(error)
            hides = hidden and cause is _Cause.REFUSED and _scheme(address) in _WEB
            if cause is _Cause.GONE or hides:
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


def can_store(address: str) -> bool:
    """Whether an address may be that of an object store, where something can be written."""
    return _scheme(address) not in (*_WEB, *_HERE)


def require_store(address: str) -> None:
    """Check that something can be written at an address.

    Raises:
        InputError: If it is one of a web server, or of this machine or process alone.
    """
    scheme = _scheme(address)
    if not can_store(address):
        raise InputError(
            f"nothing can be written to {address}",
            got="the address of a web server" if scheme in _WEB else f"{scheme}:, which is here",
            expected="the address of an object store (s3://, gs://), or a path",
            todo="give one",
        )


def require_writable(address: str) -> None:
    """Check that something can be written in a folder at an address: a small object is, and goes.

    Raises:
        InputError: If nothing can be.
    """
    place = f"{address}/{_PROBE}"

    def ask() -> None:
        system, path = _open(place)
        system.pipe_file(path, b"alphafix was here, and may be removed\n")

    require_store(address)
    _tried(address, "written", ask)
    try:
        remove(place)
    except InputError as error:  # who may write need not be allowed to remove
        logger.warning("a small file stays: %s", error.brief)


def remove(address: str) -> None:
    """Remove a file, if it is there.

    Raises:
        InputError: If it cannot be removed.
    """

    def ask() -> None:
        system, path = _open(address)
        with contextlib.suppress(FileNotFoundError):
            system.rm_file(path)

    require_store(address)
    _tried(address, "removed", ask)


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
    if given and is_address(given):
        raise InputError(
            "copies lie on this machine: ALPHAFIX_CACHE",
            got=given,
            expected="a path on a file system (local or mounted)",
            todo="set it to one, or to nothing",
        )
    if given:
        return named(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alphafix"


def fetched(address: str, known: Entry | None = None) -> Path:
    """A copy of a file on this machine, fetched unless it is there; one process does that.

    Raises:
        InputError: If it cannot be read, or has changed while it was.
    """
    path = _copied(address, known or entry(address))
    _origins[str(path)] = address
    return path


def origins() -> Mapping[str, str]:
    """The address of each copy that this process has fetched or found, by its path."""
    return _origins


def origin(path: Path) -> str | None:
    """The address of a copy that this process has fetched or found; None for other files.

    Without secrets, and without what follows a question mark, which may be another one every day.
    """
    own = os.path.realpath(path)
    found = (address for copy, address in _origins.items() if os.path.realpath(copy) == own)
    address = next(found, None)
    return None if address is None else without_secrets(address.partition("?")[0])


def _copied(address: str, known: Entry) -> Path:
    # Of what has no version nobody knows whether it has changed since an earlier command.
    may_stay = bool(known.version) or (address, known) in _fetched
    key = hashlib.sha256(f"{address}\n{known.size}\n{known.version}".encode()).hexdigest()[:32]
    folder = cache_folder() / key
    path, note = folder / (name_of(address) or "file"), folder / _NOTE
    with locked(folder, wait=_PATIENCE, begins=True):
        if may_stay and _is_whole(path, note):
            with contextlib.suppress(OSError):
                os.utime(folder)
            return path
        make_room(known.size or 0, folder)
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


# What this process has fetched, and where the copies are that it uses.
_fetched: set[tuple[str, Entry]] = set()
_origins: dict[str, str] = {}


def _is_whole(path: Path, note: Path) -> bool:
    """Whether a copy is as it was fetched: by its marks, or by its hash where these are others."""
    try:
        data, found = json.loads(note.read_text()), path.stat()
        if data["marks"] == [found.st_size, found.st_mtime_ns, found.st_ino]:
            return True
        return bool(data["sha256"] == sha256_file(path))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def make_room(size: int, own: Path) -> None:
    """Remove what was used longest ago, so that so many more bytes fit into the cache.

    Copies and the parts of features that wait to be finished lie in folders named by a hash; those
    that a command works in stay, and so does ``own``.
    """
    most = _most_gib() * 2**30
    copies = []
    for folder in cache_folder().glob(f"{'[0-9a-f]' * 32}/"):
        with contextlib.suppress(OSError):
            held = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            copies.append((folder.stat().st_mtime, held, folder))
    total = sum(held for _, held, _ in copies) + size
    for _, held, folder in sorted(copies):
        if total <= most:
            return
        if folder != own:
            copy = (folder / _NOTE).is_file()
            with if_free(folder, unlocked=copy) as free, contextlib.suppress(OSError):
                if free:
                    shutil.rmtree(folder)
                    total -= held


def _most_gib() -> float:
    """What the cache may hold.

    Raises:
        InputError: If ALPHAFIX_CACHE_GIB is no number.
    """
    given = os.environ.get("ALPHAFIX_CACHE_GIB") or str(MOST_GIB)
    try:
        most = float(given)
    except ValueError:
        most = math.nan
    if not most >= 0:
        raise InputError(
            "ALPHAFIX_CACHE_GIB is no size",
            got=given,
            expected="GiB that copies of remote files may take, such as 50",
            todo="set it to a number, or to nothing",
        )
    return most


@contextlib.contextmanager
def passing_folder() -> Iterator[Path]:
    """A folder in the cache for the time of the block; what killed commands left of such goes."""
    base = cache_folder()
    base.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        with locked(base, wait=_PATIENCE):
            for left in base.glob(f"{_PASSING_FOLDER}*/"):
                with if_free(left) as free:
                    if free:
                        shutil.rmtree(left, ignore_errors=True)
            made = tempfile.TemporaryDirectory(prefix=_PASSING_FOLDER, dir=base)
            place = Path(stack.enter_context(made))
            stack.enter_context(locked(place))
        yield place
