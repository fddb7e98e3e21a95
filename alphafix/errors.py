"""What can go wrong, as one small tree. Only the command line turns it into exit codes.

Words about options are written once and spelt for whom they are shown to: `option` and `call`
leave a mark, which `AlphafixError.text` replaces. A Python user reads ``few_below=30``, a user of
the command line ``--few-below 30``, the author of a recipe ``neighbors.few_below``.
"""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass

from alphafix.shown import in_one_line, visible, without_secrets

# Private-use characters around a mark; no message holds them otherwise.
_OPEN, _CLOSE, _SEP = "\ue000", "\ue001", "\ue002"
_MARK = re.compile(f"{_OPEN}([^{_CLOSE}]*){_CLOSE}")

Pairs = tuple[tuple[str, "str | None"], ...]
"""Options by name, each with its value if one is meant; without a name, what stands for itself."""

Spelling = Callable[["str | None", Pairs], str]
"""Spells a mark: the command (None for an option of the one at hand) and its options."""


def option(name: str, value: object = None) -> str:
    """An option in the words of an error: by its name, with a value where one is meant.

    Args:
        name: Its name in the options model, like "few_below".
        value: What it is to be; True for a switch.
    """
    return _mark("", (name, value))


def option_of(name: str, values: Iterable[object]) -> str:
    """As `option`, of one that is given with several values."""
    pairs = [(name, value) for value in values]
    return _mark("", *pairs) if pairs else ""


def call(command: str, **options: object) -> str:
    """A command that the user can give, with options, in the words of an error.

    Args:
        command: Its name on the command line, like "extract".
        **options: Options by name, as in `option`.
    """
    return _mark(command, *options.items())


def call_with(command: str, pairs: Pairs) -> str:
    """As `call`, of options that may be there more than once."""
    return _mark(command, *pairs)


def _mark(command: str, *options: tuple[str, object]) -> str:
    words = [f"{name}={'' if value is None else value}" for name, value in options]
    return f"{_OPEN}{_SEP.join([command, *words])}{_CLOSE}"


def spelt(text: str, spelling: Spelling) -> str:
    """Replace the marks of `option` and `call` in ``text``."""

    def replaced(mark: re.Match[str]) -> str:
        command, *words = mark.group(1).split(_SEP)
        pairs = (word.partition("=") for word in words)
        return spelling(command or None, tuple((name, value or None) for name, _, value in pairs))

    return _MARK.sub(replaced, text)


def in_python(command: str | None, options: Pairs) -> str:
    """Spell a mark for a caller of the Python API."""
    if command is None:
        (name, value), *more = options
        if more:
            return f"{name}=({', '.join(_literal(one or '') for _, one in options)})"
        return f"{name}={'' if value is None else _literal(value)}"
    arguments = ", ".join(
        f"{name}={'...' if value is None else _literal(value)}" for name, value in options
    )
    function = {"neighbors": "find_neighbors"}.get(command, command.replace("-", "_"))
    return f"alphafix.{function}({arguments})"


def _literal(value: str) -> str:
    """A value as it is written in Python: names and paths in quotes, numbers and switches bare."""
    return value if re.fullmatch(r"True|False|None|-?[\d.]+(e-?\d+)?", value) else repr(value)


def on_command_line(
    command: str | None,
    options: Pairs,
    flags: Mapping[str, str] | None = None,
) -> str:
    """Spell a mark for a user of the command line; ``flags`` are those not named as usual."""
    words = " ".join(_flag(name, value, flags or {}) for name, value in options)
    return words if command is None else f"`{' '.join(filter(None, ['alphafix', command, words]))}`"


def _flag(name: str, value: str | None, flags: Mapping[str, str]) -> str:
    word = "" if value is None else shlex.quote(value)
    if not name:
        return word
    dashed = name.replace("_", "-")
    long = flags.get(name) or (f"-{dashed}" if len(name) == 1 else f"--{dashed}")
    if value == "False":
        return f"--no-{dashed}"
    return long if value in (None, "True") else f"{long} {word}"


@dataclass(frozen=True)
class Words:
    """A sentence for the log that names options: in Python's spelling where nobody else shows it.

    Attributes:
        text: The sentence, with marks of `option` and `call`.
    """

    text: str

    def __str__(self) -> str:
        return spelt(self.text, in_python)


def some(names: Iterable[object], most: int = 5) -> str:
    """The first of many names in the words of an error, with the number of all if some are not."""
    words = [str(name) for name in names]
    more = f", ... ({len(words)} in all)" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number and what it counts: "1 sample", "3 samples".

    Args:
        number: How many there are.
        one: What one of them is called.
        many: What several are called, where that is more than an ending.
    """
    several = many or one + ("es" if one.endswith("s") else "s")
    return f"{number:,} {one if number == 1 else several}"


def in_recipe(stage: str) -> Spelling:
    """Spell marks for the author of a recipe, in whose ``stage`` an error arose."""

    def spelling(command: str | None, options: Pairs) -> str:
        if command is not None and not options:
            return f"the stage {command}"
        names = (f"{command or stage}.{name}" for name, _ in options)
        values = ("" if value is None else f": {value}" for _, value in options)
        return ", ".join(f"{name}{value}" for name, value in zip(names, values, strict=True))

    return spelling


_AT_WORK: ContextVar[str | None] = ContextVar("stage at work", default=None)


@contextlib.contextmanager
def at_work(stage: str) -> Iterator[None]:
    """While a stage of a chain is at work: its options are spelt as that chain has them."""
    before = _AT_WORK.set(stage)
    try:
        yield
    finally:
        _AT_WORK.reset(before)


def stage_at_work() -> str | None:
    """The stage of a chain that is at work, by the name that options are set with, or None."""
    return _AT_WORK.get()


class AlphafixError(Exception):
    """A problem that the user can act on.

    Args:
        what: What is wrong, in one sentence.
        got: What was found.
        expected: What was needed instead.
        todo: What the user can do next.
        more: Further lines, as they are.

    Attributes:
        stage: The stage of a chain that it stopped, by the name that options are set with; None
            for a command by itself.
    """

    stage: str | None = None

    def __init__(
        self,
        what: str,
        *more: str,
        got: object = None,
        expected: object = None,
        todo: str | None = None,
    ) -> None:
        self.what, self.got, self.todo = what, got, todo
        parts = [what]
        parts += [f"  got:      {got}"] if got is not None else []
        parts += [f"  expected: {expected}"] if expected is not None else []
        parts += [f"  to do:    {todo}"] if todo is not None else []
        # What others wrote can begin no line of ours.
        lines = [visible(part).replace("\n", "\n            ") for part in parts]
        self._todo = lines[-1] if todo is not None else None
        super().__init__("\n".join([*lines, *map(in_one_line, more)]))

    def add(self, *more: str) -> None:
        """Say more, in further lines, where more is known than where it was raised."""
        self.args = ("\n".join([str(self.args[0]), *map(in_one_line, more)]), *self.args[1:])

    def rename(self, names: Mapping[str, str]) -> None:
        """Call paths, and what lies below them, in the message by what a person knows them by.

        Args:
            names: What each path is known by.
        """
        for path, name in names.items():
            whole = re.compile(rf"(?<![\w./~-]){re.escape(path)}(?![\w.-])")
            known = visible(name).replace("\\", r"\\")
            self.args = (whole.sub(known, str(self.args[0])), *self.args[1:])
            self.what = whole.sub(known, self.what)
            self.got = None if self.got is None else whole.sub(known, str(self.got))
            self.todo = None if self.todo is None else whole.sub(known, self.todo)
            self._todo = None if self._todo is None else whole.sub(known, self._todo)

    @property
    def brief(self) -> Words:
        """What is wrong and what was found, in one line for the log."""
        found = "" if self.got is None else f" ({self.got})"
        return Words(in_one_line(f"{self.what}{found}"))

    def complete(self, completed: Callable[[str, Pairs], Pairs]) -> None:
        """Complete the commands of what is to do, where more is known than where it was raised.

        Who knows most does so first: what is complete stays as it is.

        Args:
            completed: Gives all options of a command by its name and those that it has already.
        """

        def again(command: str | None, options: Pairs) -> str:
            return _mark(command or "", *(completed(command, options) if command else options))

        if self._todo is not None:
            text = str(self.args[0]).replace(self._todo, spelt(self._todo, again))
            self.args, self._todo = (text, *self.args[1:]), None

    def text(self, spelling: Spelling = in_python) -> str:
        """The message, with options spelt for whom it is shown to."""
        return without_secrets(spelt(str(self.args[0]), spelling))

    def __str__(self) -> str:
        return self.text()


class InputError(AlphafixError):
    """Data, a file or an option that cannot be used as it is."""


class FileFormatError(InputError):
    """A file that is damaged or not of the format that it should have."""


class MissingStageError(AlphafixError):
    """A stage needs what an earlier command has not made yet."""


class StaleInputError(AlphafixError):
    """A stage's input was made from something that has changed since."""


class TargetExistsError(AlphafixError):
    """The output is there already and may not be replaced without being told."""


class MissingPackageError(AlphafixError):
    """An optional package is needed that is not installed."""


class GateError(AlphafixError):
    """A result is fine but does not meet a limit that the user set (exit code 3)."""


class Interruption(KeyboardInterrupt):
    """The user interrupted, and there is more to say of it than that nothing is half-written."""

    def text(self, spelling: Spelling = in_python) -> str:
        """In which state things are, with options spelt for whom it is shown to."""
        return without_secrets(spelt(str(self.args[0]), spelling))

    def __str__(self) -> str:
        return self.text()
