"""What a command is. The command line, recipes, the Python API and --json are derived from it."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from alphafix.commands.options import CommandOptions
from alphafix.commands.outputs import require_apart
from alphafix.errors import AlphafixError, InputError
from alphafix.progress import Progress, silent
from alphafix.run.artifact import State
from alphafix.run.directory import Run
from alphafix.run.lock import locked

Say = Callable[[str], None]


def _unheard(text: str) -> None:
    pass


@dataclass(frozen=True)
class Watch:
    """Who is told while a command works.

    Attributes:
        progress: Told of long work.
        say: Called with a line at the end of each part of it.
    """

    progress: Progress = silent
    say: Say = _unheard


@dataclass(frozen=True)
class Table:
    """A table that a person sees.

    Attributes:
        title: Its title.
        columns: Names of the columns.
        rows: The cells, as text or numbers.
        left: Positions of the columns that are text, beside the first.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    left: tuple[int, ...] = ()


@dataclass(frozen=True)
class Shown:
    """What a person sees of a result.

    Attributes:
        result: What goes to stdout, and nothing else does: a path, a name, a report.
        told: What goes to stderr before it, in order: tables, and lines of text.
        failure: Why the result, although it is there, fails the command (a gate, say).
    """

    result: str
    told: Sequence[Table | str] = ()
    failure: AlphafixError | None = None


class Result(Protocol):
    """What the work of a command gives."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that were written, or are there already as they would be."""

    def to_dict(self) -> Any:
        """JSON data: what --json prints."""


# Seconds that commands wait for one another, if they have no option for it.
WAIT = 600.0

Options = TypeVar("Options", bound=CommandOptions)
Made = TypeVar("Made")


def alone(
    work: Callable[[Options, Watch], Made],
    options: Options,
    watch: Watch | None = None,
    *,
    begins: bool = False,
) -> Made:
    """Do a command's work while no other command works in its folder.

    Args:
        work: The work.
        options: Its options, which name the folder.
        watch: Who is told.
        begins: Whether the folder is made if it is not there.

    Raises:
        LockedError: If another command works there for longer than ``options.wait`` seconds.
        InputError: If something would be written over what is read, or out of the folder.
        AlphafixError: What the work raises.
    """
    watch = watch or Watch()
    require_apart(options)
    if options.place is None:
        return work(options, watch)
    with held(options.place, watch, wait=getattr(options, "wait", WAIT), begins=begins):
        return work(options, watch)


@contextlib.contextmanager
def held(place: Path, watch: Watch, *, wait: float = WAIT, begins: bool = False) -> Iterator[None]:
    """Hold the lock of a folder; of several processes of one command the first does.

    Args:
        place: The folder.
        watch: Who is told of others that hold it.
        wait: Seconds to wait for them.
        begins: Whether the folder is made if it is not there.

    Raises:
        LockedError: If another command works there for longer.
        InputError: If the folder cannot be made, or what is written in it would lie elsewhere.
    """
    if os.environ.get("RANK", "0") != "0" or not (begins or place.is_dir()):
        yield
        return
    made = begins and not place.exists()
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the folder {place} cannot be made",
            got=error.strerror or str(error),
            expected="a folder that can be written",
        ) from error
    try:
        with locked(place, wait=wait, say=watch.say):
            Run(place).require_inside()
            yield
    finally:
        if made:
            with contextlib.suppress(OSError):
                place.rmdir()  # only if nothing came of it


@dataclass(frozen=True)
class Command:
    """A command: its options, its state, its work, and how its result is shown.

    The heavy parts are functions in two modules beside the one that defines the command, which
    are loaded when they are needed: ``work.py`` has ``work(options, watch)`` and
    ``state(options)``, ``show.py`` has ``show(result, options)``. (A group's members have a prefix:
    ``import_work``.)

    Attributes:
        name: As on the command line: "train", "features import".
        options: Its options model.
        help: Its help text; the first line is the summary.
        example: A command line that runs as printed.
        folder: Its package, as ``__name__`` gives it.
        prefix: Before the names of its functions, in a group.
        begins: Whether it can be the first to work in its folder, which it then makes.
        feeds: Whether other commands of a recipe read what it leaves.
        judged: Whether its result, although it is there, may fail the command (by a gate).
        log: What of the library's log is shown.
    """

    name: str
    options: type[CommandOptions]
    help: str
    example: str
    folder: str
    prefix: str = ""
    begins: bool = False
    feeds: bool = True
    judged: bool = False
    log: int = field(default=logging.INFO)

    def work(self, options: CommandOptions, watch: Watch) -> Result:
        """Do it, unless it is done; see the module for what it raises."""
        work: Callable[[CommandOptions, Watch], Result] = self._function("work", "work")
        return alone(work, options, watch, begins=self.begins)

    def state(self, options: CommandOptions) -> State:
        """Whether the result is there as `work` would make it."""
        found: State = self._function("work", "state")(options)
        return found

    def show(self, result: Result, options: CommandOptions) -> Shown:
        """What a person sees of a result."""
        shown: Shown = self._function("show", "show")(result, options)
        return shown

    def _function(self, module: str, name: str) -> Callable[..., Any]:
        loaded = importlib.import_module(f"{self.folder}.{module}")
        function: Callable[..., Any] = getattr(loaded, self.prefix + name)
        return function
