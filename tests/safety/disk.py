"""Every change that a command makes on the disk, as points where it can be stopped.

All files are opened through Python's own ``_pyio``, so that each write is a call of a function of
``os``, which is wrapped. A trace of one whole run is enough to know all points; the n-th can then
be a kill or an error, and from the trace follow the states that a power cut can leave.
"""

from __future__ import annotations

import _pyio  # type: ignore[import-not-found]
import builtins
import io
import itertools
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Functions of os that change something, and where their file is named.
_BY_DESCRIPTOR = ("write", "pwrite", "writev", "ftruncate", "fchmod", "fsync", "fdatasync")
_BY_PATH = ("unlink", "remove", "rmdir", "mkdir", "truncate", "chmod")
_BY_TWO = ("rename", "replace", "link")
_COPIES = {"copy_file_range": 1, "sendfile": 0}  # position of the descriptor that is written

WRITES = ("write", "pwrite", "writev", "copy_file_range", "sendfile", "open", "mkdir", "ftruncate")
"""What needs room on a disk."""

Fails = Callable[[int, str], int | None]
"""Says of a point, by its number and function, with which errno it fails; 0 is a kill."""


@dataclass(frozen=True)
class Step:
    """One change.

    Attributes:
        name: The function of ``os``.
        inode: Which file's bytes it is about, as numbered by the trace, or -1.
        path: Which name it is about, or "".
        other: The second name, of a link or a rename.
        offset: Where bytes were written.
        data: What was written.
    """

    name: str
    inode: int = -1
    path: str = ""
    other: str = ""
    offset: int = 0
    data: bytes = b""


@dataclass
class Watched:
    """What happens below a folder.

    Attributes:
        folder: The folder.
        fails: What becomes of each point.
        steps: What has happened, if it is kept.
        lines: Of each point the lines of the package that led there, if asked for.
    """

    folder: Path
    fails: Fails = lambda number, name: None
    steps: list[Step] = field(default_factory=list)
    lines: list[str] | None = None
    _count: int = 0
    _inodes: dict[int, int] = field(default_factory=dict)
    _known: Iterator[int] = field(default_factory=itertools.count)
    _real: dict[str, Any] = field(default_factory=dict)

    def start(self) -> None:
        """Wrap the functions of this process, for good."""
        self.folder = self.folder.resolve()
        names = (*_BY_DESCRIPTOR, *_BY_PATH, *_BY_TWO, *_COPIES, "open")
        self._real = {name: getattr(os, name) for name in names}
        for path in sorted(self.folder.rglob("*")):
            if path.is_file():
                self._inodes[path.stat().st_ino] = next(self._known)
        for name in names:
            setattr(os, name, self._wrapped(name))
        builtins.open = io.open = _pyio.open

    def initial(self) -> dict[str, int]:
        """The number of each file that is there at the start, by its name."""
        files = (path for path in sorted(self.folder.rglob("*")) if path.is_file())
        return {str(path): self._inodes[path.stat().st_ino] for path in files}

    def _wrapped(self, name: str) -> Callable[..., Any]:
        real = self._real[name]

        def function(*arguments: Any, **named: Any) -> Any:
            places = self._places(name, arguments, named)
            if not any(self._inside(place) for place in places):
                return real(*arguments, **named)
            if name == "open" and not _changes(arguments):
                return self._opened(arguments, named, new=False)
            self._point(name)
            if name in ("fsync", "fdatasync"):
                self._note(name, arguments, places, None)
                return None  # the trace knows what it would have done
            step_before = self._before(name, arguments, places)
            if name == "open":
                nameless = arguments[1] & os.O_TMPFILE == os.O_TMPFILE
                by_descriptor = places[0].endswith(" (deleted)")
                new = nameless or not (by_descriptor or os.path.lexists(places[0]))
                found = self._opened(arguments, named, new=new)
                self._note_open(arguments, places, found, new=new)
                return found
            found = real(*arguments, **named)
            self._note(name, arguments, places, found, step_before)
            return found

        return function

    def _point(self, name: str) -> None:
        number, self._count = self._count, self._count + 1
        if self.lines is not None:
            self.lines.append(_lines())
        failure = self.fails(number, name)
        if failure == 0:
            os.kill(os.getpid(), signal.SIGKILL)
            signal.pause()
        if failure is not None:
            raise OSError(failure, os.strerror(failure))

    def _inside(self, place: str) -> bool:
        return place.startswith(str(self.folder))

    def _places(self, name: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> list[str]:
        if name in _BY_DESCRIPTOR:
            return [self._of(arguments[0])]
        if name in _COPIES:
            return [self._of(arguments[_COPIES[name]])]
        second = [arguments[1]] if name in _BY_TWO else []
        folder = named.get("dst_dir_fd", named.get("dir_fd"))
        return [self._absolute(item, folder) for item in (arguments[0], *second)]

    def _absolute(self, item: Any, folder: int | None) -> str:
        if isinstance(item, int):
            return self._of(item)
        path = os.fsdecode(item)
        if path.startswith("/proc/self/fd/"):
            return self._of(int(path.rpartition("/")[2]))
        if folder is not None and not path.startswith("/"):
            return os.path.join(self._of(folder), path)
        return os.path.abspath(path)

    def _of(self, descriptor: int) -> str:
        try:
            return os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:
            return ""

    def _opened(self, arguments: tuple[Any, ...], named: dict[str, Any], *, new: bool) -> int:
        descriptor: int = self._real["open"](*arguments, **named)
        inode = os.fstat(descriptor).st_ino
        if new or inode not in self._inodes:
            self._inodes[inode] = next(self._known)
        return descriptor

    def _number(self, descriptor: int) -> int:
        return self._inodes.get(os.fstat(descriptor).st_ino, -1)

    def _note_open(
        self, arguments: tuple[Any, ...], places: list[str], found: int, *, new: bool
    ) -> None:
        inode, flags = self._number(found), arguments[1]
        if new and flags & os.O_TMPFILE != os.O_TMPFILE:
            self.steps.append(Step("link", inode, path=places[0]))
        elif flags & os.O_TRUNC:
            self.steps.append(Step("ftruncate", inode, offset=0))

    def _before(self, name: str, arguments: tuple[Any, ...], places: list[str]) -> int:
        if name in ("write", "writev"):
            return os.lseek(arguments[0], 0, os.SEEK_CUR)
        if name in _BY_TWO:
            return self._inodes.get(os.stat(arguments[0]).st_ino, -1)
        return 0

    def _note(
        self,
        name: str,
        arguments: tuple[Any, ...],
        places: list[str],
        found: Any,
        before: int = 0,
    ) -> None:
        if name in ("fsync", "fdatasync"):
            folder = os.path.isdir(places[0])
            self.steps.append(
                Step("sync folder", path=places[0])
                if folder
                else Step("sync", self._number(arguments[0]))
            )
        elif name == "write":
            data = bytes(memoryview(arguments[1]).cast("B")[:found])
            self.steps.append(Step("write", self._number(arguments[0]), offset=before, data=data))
        elif name == "pwrite":
            data = bytes(memoryview(arguments[1]).cast("B")[:found])
            inode = self._number(arguments[0])
            self.steps.append(Step("write", inode, offset=arguments[2], data=data))
        elif name in _COPIES:
            target = arguments[_COPIES[name]]
            offset = arguments[4] if name == "copy_file_range" else os.lseek(target, 0, 1) - found
            copied = self._real["open"](f"/proc/self/fd/{target}", os.O_RDONLY)
            data = os.pread(copied, found, offset)
            os.close(copied)
            self.steps.append(Step("write", self._number(target), offset=offset, data=data))
        elif name == "ftruncate":
            inode = self._number(arguments[0])
            self.steps.append(Step("ftruncate", inode, offset=arguments[1]))
        elif name == "link":
            self.steps.append(Step("link", before, path=places[1]))
        elif name in ("rename", "replace"):
            self.steps.append(Step("rename", before, path=places[0], other=places[1]))
        elif name in ("unlink", "remove", "mkdir", "rmdir"):
            self.steps.append(Step("unlink" if name == "remove" else name, path=places[0]))


def _lines() -> str:
    """Which lines of the package are being executed, the innermost first."""
    frame, found = sys._getframe(2), []
    while frame.f_back is not None:
        frame = frame.f_back
        _, inside, file = frame.f_code.co_filename.rpartition("/alphafix/")
        if inside:
            found.append(f"{file}:{frame.f_lineno}")
    return "<".join(found)


def _changes(arguments: tuple[Any, ...]) -> bool:
    return bool(arguments[1] & (os.O_CREAT | os.O_TRUNC | (os.O_TMPFILE & ~os.O_DIRECTORY)))


State = dict[str, bytes | None]
"""What is on a disk: content by path; None for a folder."""


def state_of(folder: Path) -> State:
    """What is below a folder."""
    found: State = {}
    for path in sorted(folder.rglob("*")):
        found[str(path)] = path.read_bytes() if path.is_file() else None
    return found


def after_power_cuts(
    root: str, before: State, numbers: dict[str, int], steps: list[Step], *, most: int = 6
) -> list[State]:
    """The states that a power cut may leave at any point of a trace.

    What a flush of a file or a folder has confirmed is there; of all changes since, any subset may
    be (all subsets of the last ``most``, and for more a fixed random choice of them).

    Args:
        root: The folder, which stays.
        before: What was there at the start.
        numbers: The numbers of its files.
        steps: The trace.
        most: How many pending changes are combined in all ways.
    """
    found: dict[tuple[tuple[str, bytes | None], ...], State] = {}
    choose = random.Random(0)
    for end in range(len(steps) + 1):
        done = steps[:end]
        pending = [at for at, step in enumerate(done) if _is_pending(step, done[at + 1 :])]
        choices: list[tuple[int, ...]]
        if len(pending) <= most:
            choices = [
                kept for n in range(len(pending) + 1) for kept in itertools.combinations(pending, n)
            ]
        else:
            choices = [(), tuple(pending)]
            choices += [tuple(at for at in pending if choose.random() < 0.5) for _ in range(24)]
            choices += [tuple(at for at in pending if at != lost) for lost in pending]
        for kept in choices:
            lost = set(pending) - set(kept)
            state = _replayed(
                root, before, numbers, [s for at, s in enumerate(done) if at not in lost]
            )
            found[tuple(sorted(state.items()))] = state
    return list(found.values())


def _is_pending(step: Step, later: list[Step]) -> bool:
    if step.name in ("sync", "sync folder"):
        return False
    if step.name in ("write", "ftruncate"):
        return not any(s.name == "sync" and s.inode == step.inode for s in later)
    folders = {os.path.dirname(name) for name in (step.path, step.other) if name}
    return not folders <= {s.path for s in later if s.name == "sync folder"}


def _replayed(root: str, before: State, numbers: dict[str, int], steps: list[Step]) -> State:
    names = dict(numbers)
    folders = {path for path, content in before.items() if content is None}
    contents = {numbers[path]: bytearray(data) for path, data in before.items() if data is not None}
    for step in steps:
        if step.name in ("write", "ftruncate"):
            content = contents.setdefault(step.inode, bytearray())
            size = step.offset if step.name == "ftruncate" else step.offset + len(step.data)
            if step.name == "ftruncate":
                del content[size:]
            content.extend(bytes(max(0, size - len(content))))
            content[step.offset : step.offset + len(step.data)] = step.data
        elif step.name == "link":
            names[step.path] = step.inode
        elif step.name == "rename":
            moved = [name for name in names if name.startswith(step.path + "/")]
            for name in moved:
                names[step.other + name[len(step.path) :]] = names.pop(name)
            if names.pop(step.path, None) is not None or step.inode in contents:
                names[step.other] = step.inode
        elif step.name == "unlink":
            names.pop(step.path, None)
        elif step.name == "mkdir":
            folders.add(step.path)
        elif step.name == "rmdir":
            folders.discard(step.path)
    found: State = dict.fromkeys(folder for folder in folders if _reachable(folder, root, folders))
    for name, inode in names.items():
        if _reachable(name, root, folders):
            found[name] = bytes(contents.get(inode, b""))
    return found


def _reachable(name: str, root: str, folders: set[str]) -> bool:
    parent = os.path.dirname(name)
    return parent == root or (parent in folders and _reachable(parent, root, folders))
