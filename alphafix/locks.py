"""One command at a time in a run directory, and on a model file: advisory locks.

The lock is on the folder or the file itself (flock), so that nothing is left behind, and a process
that dies gives it up. Within one process it may be taken again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from alphafix.errors import AlphafixError, InputError, option
from alphafix.reading.boundary import real

# Locks of this process by device and inode, and how often each was taken.
_HELD: dict[tuple[int, int], int] = {}

# The open files by which it holds them.
_DESCRIPTORS: set[int] = set()

_SECONDS = 0.05

# What file systems without locks say, and those that need a file to be open for writing.
_WITHOUT_LOCKS = (errno.ENOLCK, errno.EBADF, errno.EOPNOTSUPP)


class LockedError(AlphafixError):
    """Another process works on the same run directory or file."""


@contextlib.contextmanager
def locked(
    path: Path,
    *,
    wait: float = 0.0,
    shared: bool = False,
    begins: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[Sequence[Path]]:
    """Hold the lock of a folder or file that is there, and is still there once it is held.

    Args:
        path: The folder or file.
        wait: Seconds to wait for another process.
        shared: Whether others may hold it too, as long as all only read.
        begins: Whether a folder is made where there is none, or none any longer once it is held.
        say: Called with a line if there is somebody to wait for.

    Yields:
        The folders that were made for that, the outermost first.

    Raises:
        LockedError: If another process still holds it; which one is said where that is known.
        InputError: If it cannot be opened, or made.
    """
    deadline = time.monotonic() + wait
    made: list[Path] = []
    while True:
        if begins:  # of what was made before, those around it are still there, or made again
            made = list(dict.fromkeys([*(one for one in made if one != path), *_make(path)]))
        try:
            descriptor = _open(path)
        except FileNotFoundError as error:
            if begins:  # another process that held it has removed it
                continue
            raise _unopened(path, error) from error
        except OSError as error:
            raise _unopened(path, error) from error
        try:
            found = os.fstat(descriptor)
            key = (found.st_dev, found.st_ino)
            if key not in _HELD:
                _take(descriptor, path, key[1], deadline, shared, say)
            if not _is_at(path, key):  # replaced by a rename, or removed, while we waited
                continue
            _HELD[key] = _HELD.get(key, 0) + 1
            try:
                yield made
                return
            finally:
                if descriptor in _DESCRIPTORS:  # not in a forked process
                    _give_up(descriptor, key)
        finally:
            if descriptor in _DESCRIPTORS:
                _DESCRIPTORS.discard(descriptor)
                os.close(descriptor)


@contextlib.contextmanager
def all_locked(
    paths: Iterable[Path], *, wait: float = 0.0, say: Callable[[str], None] = lambda text: None
) -> Iterator[None]:
    """Hold the locks of several files, such as those of one model (see `locked`)."""
    with contextlib.ExitStack() as stack:
        for path in sorted(real(path) for path in paths):  # in one order, or two would block
            stack.enter_context(locked(path, wait=wait, say=say))
        yield


@contextlib.contextmanager
def if_free(path: Path, *, unlocked: bool = False) -> Iterator[bool]:
    """Hold the lock of a file or folder that no command works with, of this process or another.

    Args:
        path: The file or folder.
        unlocked: What is yielded on a file system without locks.

    Yields:
        Whether it is held: not where somebody has it, or it is gone.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        yield False
        return
    try:
        found = os.fstat(descriptor)
        key = (found.st_dev, found.st_ino)
        free = key not in _HELD
        if free:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                free = _is_at(path, key)
            except OSError as error:
                free = unlocked and error.errno in _WITHOUT_LOCKS
        yield free
    finally:
        os.close(descriptor)


def make_folders(path: Path) -> list[Path]:
    """Make a folder and those above it that are not there; return these, the outermost first.

    Raises:
        OSError: If one cannot be made; those that were made are gone again.
    """
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    made: list[Path] = []
    try:
        for folder in reversed(missing):
            try:
                folder.mkdir()
                made.append(folder)
            except FileExistsError:
                if not folder.is_dir():
                    raise
    except OSError:
        remove_empty(made)
        raise
    return made


def remove_empty(folders: Sequence[Path]) -> None:
    """Remove folders, the outermost of which is the first, unless something is in them."""
    for folder in reversed(folders):
        with contextlib.suppress(OSError):
            folder.rmdir()


def _make(path: Path, tries: int = 10) -> list[Path]:
    """Make a folder unless it is there; what was made (see `make_folders`)."""
    try:
        return make_folders(path)
    except FileExistsError as error:
        place = Path(error.filename)
        if place.is_dir() or not os.path.lexists(place):  # the latter: it is gone again
            return []
        raise _unmade(path, error) from error
    except FileNotFoundError as error:  # another process has removed the folder around it
        if not tries:
            raise _unmade(path, error) from error
        return _make(path, tries - 1)
    except OSError as error:
        raise _unmade(path, error) from error


def _unmade(path: Path, error: OSError) -> InputError:
    places = (place for place in (path, *path.parents) if os.path.lexists(place))
    file = next((place for place in places if not place.is_dir()), None)
    return InputError(
        f"the folder {path} cannot be made",
        got=(error.strerror or str(error)) if file is None else f"{file}, which is no folder",
        expected="a folder that can be written",
    )


def _open(path: Path) -> int:
    descriptor = os.open(path, os.O_RDONLY)
    _DESCRIPTORS.add(descriptor)
    return descriptor


def _unopened(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path} cannot be opened",
        got=error.strerror or str(error),
        expected="a file or folder that can be read",
    )


def _is_at(path: Path, key: tuple[int, int]) -> bool:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return False
    return (found.st_dev, found.st_ino) == key


def _give_up(descriptor: int, key: tuple[int, int]) -> None:
    _HELD[key] -= 1
    if not _HELD[key]:
        del _HELD[key]
        with contextlib.suppress(OSError):  # a file system without locks
            # By name: a forked process may have the same descriptor open still.
            fcntl.flock(descriptor, fcntl.LOCK_UN)


def _forget() -> None:
    """Leave the locks to the process that took them.

    A forked process, such as one that loads images, would otherwise hold them for as long as it
    lives: after its parent was killed, or is done with them.
    """
    for descriptor in _DESCRIPTORS:
        os.close(descriptor)
    _DESCRIPTORS.clear()
    _HELD.clear()


os.register_at_fork(after_in_child=_forget)


def _take(
    descriptor: int,
    path: Path,
    inode: int,
    deadline: float,
    shared: bool,
    say: Callable[[str], None],
) -> None:
    how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
    told = False
    while True:
        try:
            fcntl.flock(descriptor, how)
            return
        except BlockingIOError:
            who = _holder(inode)
        except OSError as error:
            if error.errno in _WITHOUT_LOCKS:
                return  # a file system without locks
            raise
        if time.monotonic() >= deadline:
            raise LockedError(
                f"{path} is in use",
                got=who,
                expected="one command at a time",
                todo=f"wait for it to end, or give {option('wait', 'SECONDS')}",
            )
        if not told:
            say(f"waiting for {who}, which uses {path}")
            told = True
        time.sleep(_SECONDS)


def _holder(inode: int) -> str:
    """The process that holds a lock on ``inode``, in words."""
    try:
        lines = Path("/proc/locks").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        words = line.split()
        if len(words) >= 6 and words[1] == "FLOCK" and words[5].rpartition(":")[2] == str(inode):
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{words[4]}/cmdline").read_bytes().decode(errors="replace")
                return f"process {words[4]} ({' '.join(command.split(chr(0))).strip()[:100]})"
            return f"process {words[4]}"
    return "another process"
