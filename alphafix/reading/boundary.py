"""One error for whatever a library raises on a file that it cannot read."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from alphafix.errors import AlphafixError, FileFormatError, InputError

_AGAIN = "copy or make the file again"


@contextlib.contextmanager
def reading(path: Path | str, what: str, *, todo: str = _AGAIN) -> Iterator[None]:
    """Read a file that may hold anything, by a library that may raise anything.

    Args:
        path: The file; as a text the address of one elsewhere, whose bytes are here.
        what: What it is to be, with its article: "a NumPy file".
        todo: What the user can do if it is not.

    Raises:
        InputError: If it cannot be read, or takes more memory than there is.
        FileFormatError: If the block raised anything else but an error of our own.
    """
    try:
        if isinstance(path, Path):
            require_file(path, what)
        yield
    except AlphafixError:
        raise
    except MemoryError as error:
        raise InputError(
            f"{path} takes more memory than there is", got=first_line(error), todo=todo
        ) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise cannot_read(path, error, what) from error
        raise FileFormatError(
            f"{path} is damaged, or is not {what}",
            got=first_line(error),
            expected=what,
            todo=todo,
        ) from error


def cannot_read(path: Path | str, error: OSError, what: str) -> InputError:
    """Return the error of a file that the system does not give."""
    return InputError(
        f"cannot read {path}",
        got=error.strerror or str(error),
        expected=what,
        todo="check the path and its permissions",
    )


_SPECIAL = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def special(path: Path) -> str:
    """What a path leads to if that is neither a file nor a folder, in words; "" otherwise."""
    try:
        return _SPECIAL.get(stat.S_IFMT(os.stat(path).st_mode), "")
    except (OSError, ValueError):  # nothing, or a name that cannot be
        return ""


def require_file(path: Path, what: str) -> None:
    """Refuse what has no size and may have no end: pipes, devices and sockets.

    Raises:
        InputError: If the path leads to one.
    """
    if found := special(path):
        raise InputError(
            f"{path} is no file",
            got=found,
            expected=f"{what}, in a file",
            todo="write what comes from there to a file first",
        )


def real(path: Path) -> Path:
    """The path without links; where links lead in a circle, as far as they can be followed.

    (Before Python 3.13, ``Path.resolve`` raises a RuntimeError there.)
    """
    return Path(os.path.realpath(path))


def first_line(error: BaseException) -> str:
    """What an error says, in one line; its type if it says nothing."""
    if isinstance(error, KeyError):
        return f"no entry {error}"[:300]
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:300]


def is_plain(name: str) -> bool:
    """Whether a text, which a file gives, is the name of a file and nothing of a path."""
    return name not in ("", ".", "..") and not set(name) & set("/\\\0")


def is_beside(folder: Path, name: str) -> bool:
    """Whether ``name``, which a file gives, is the name of a file that is in ``folder``."""
    try:
        return is_plain(name) and (folder / name).is_file()
    except (OSError, ValueError):  # longer than names may be, or not to be encoded
        return False
