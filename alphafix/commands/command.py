"""What a command is, and how its work is done."""

from __future__ import annotations

import contextlib
import importlib
import keyword
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from alphafix.errors import AlphafixError, InputError
from alphafix.locks import locked, remove_empty
from alphafix.progress import Progress, silent
from alphafix.values.display import Part

if TYPE_CHECKING:
    from alphafix.commands.options import CommandOptions
    from alphafix.run.artifact import State


class Say(Protocol):
    """Tells a person something: lines of text and tables."""

    def __call__(self, *parts: Part) -> None:
        """Tell them."""


def _unheard(*parts: Part) -> None:
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
class Shown:
    """What a person sees of a result.

    Attributes:
        result: What goes to stdout, and nothing else does: a path, a name, or tables and text.
        told: What goes to stderr before it, in order: tables, and lines of text.
        see: Where there is more to look at: a picture, a page. It goes to stderr at the end.
        failure: Why the result, although it is there, fails the command (a gate, say).
    """

    result: str | Sequence[Part]
    told: Sequence[Part] = ()
    see: Path | None = None
    failure: AlphafixError | None = None


class Result(Protocol):
    """What the work of a command gives."""

    def to_dict(self) -> Any:
        """JSON data: what --json prints."""


# Seconds that commands wait for one another, if they have no option for it.
WAIT = 600.0

Options = TypeVar("Options", bound="CommandOptions")
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
    from alphafix.commands.fetching import by_address, with_copies
    from alphafix.commands.outputs import require_apart

    watch = watch or Watch()
    with by_address():
        options = with_copies(options)
        require_apart(options)
        if options.place is None or not options.holds:
            return work(options, watch)
        wait = getattr(options, "wait", WAIT)
        with held(options.place, watch, wait=wait, begins=begins, stays=options.stays):
            return work(options, watch)


@contextlib.contextmanager
def held(
    place: Path, watch: Watch, *, wait: float = WAIT, begins: bool = False, stays: bool = True
) -> Iterator[None]:
    """Hold the lock of a folder.

    Args:
        place: The folder.
        watch: Who is told of others that hold it.
        wait: Seconds to wait for them.
        begins: Whether the folder is made if it is not there.
        stays: Whether one that was there before stays when nothing is in it.

    Raises:
        LockedError: If another command works there for longer.
        InputError: If the folder cannot be made, or what is written in it would lie elsewhere.
    """
    from alphafix.run.directory import Run

    if not (begins or place.is_dir()):
        yield
        return
    with contextlib.ExitStack() as entered:
        try:
            lock = locked(place, wait=wait, begins=begins, say=watch.say)
            made: list[Path] | None = list(entered.enter_context(lock))
        except InputError:
            if begins or os.path.lexists(place):
                raise
            made = None  # who held it has removed it: there is nothing to hold
        if made is None:
            yield
            return
        if not stays and place not in made:
            made.append(place)
        try:
            Run(place).require_inside()
            yield
        finally:
            remove_empty(made)  # before others may hold it, and only if nothing came of it


@dataclass(frozen=True)
class Command:
    """A command: its options, its state, its work, and how its result is shown.

    All but its words are in the modules of its folder, which are loaded when they are used:
    ``options.py`` has the model, ``work.py`` ``work(options, watch)`` and ``state(options)``,
    ``show.py`` ``show(result, options)``. (A group's members say which they are:
    ``import_work``.)

    Attributes:
        name: As on the command line: "train", "features import".
        model: Name of its options model.
        help: Its help text; the first line is the summary.
        example: A command line that runs as printed.
        begins: Whether it can be the first to work in its folder, which it then makes.
        feeds: Whether other commands of a recipe read what it leaves.
        judged: Whether its result, although it is there, may fail the command (by a gate).
        log: What of the library's log is shown.
    """

    name: str
    model: str
    help: str
    example: str
    begins: bool = False
    feeds: bool = True
    judged: bool = False
    log: int = logging.INFO

    @property
    def word(self) -> str:
        """What follows ``alphafix``: its name, or that of its group."""
        return self.name.partition(" ")[0]

    @property
    def options(self) -> type[CommandOptions]:
        """Its options model."""
        model: type[CommandOptions] = getattr(self._module("options"), self.model)
        return model

    def load(self) -> None:
        """Load what its work needs, which takes time the first time."""
        self._module("work")

    def work(self, options: CommandOptions, watch: Watch) -> Result:
        """Do it, unless it is done; see the module for what it raises."""
        work: Callable[[CommandOptions, Watch], Result] = self._function("work", "work")
        return alone(work, options, watch, begins=self.begins)

    def state(self, options: CommandOptions) -> State:
        """Whether the result is there as `work` would make it."""
        from alphafix.commands.fetching import by_address, with_copies

        with by_address():
            found: State = self._function("work", "state")(with_copies(options))
        return found

    def show(self, result: Result, options: CommandOptions) -> Shown:
        """What a person sees of a result."""
        shown: Shown = self._function("show", "show")(result, options)
        return shown

    def _function(self, module: str, name: str) -> Callable[..., Any]:
        member = self.name.partition(" ")[2]
        function: Callable[..., Any] = getattr(
            self._module(module), f"{member}_{name}" if member else name
        )
        return function

    def _module(self, name: str) -> Any:
        folder = self.word.replace("-", "_")
        folder += "_" if keyword.iskeyword(folder) else ""  # a module cannot be called "import"
        return importlib.import_module(f"alphafix.commands.{folder}.{name}")
