"""What a person sees: tables and bars on stderr, results on stdout."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

from rich.console import Console
from rich.text import Text

from alphafix.errors import Spelling, Words, on_command_line, spelt, stage_at_work
from alphafix.report.layout import Line, lay_out, plain
from alphafix.shown import in_one_line, visible
from alphafix.values.display import Part, Table

stderr = Console(stderr=True, highlight=False)

# Changes to the better and to the worse; their signs say the same without colour.
TONES = {1: "green", -1: "red", 0: ""}

# What stands for our own signs where the output cannot write them.
_PLAIN = {"\u00b1": "+-", "\u2192": "->", "\u0394": "change in", "\u2713": "ok"}


Spellings = Callable[[str | None], Spelling]
"""How options are spelt while a stage of a chain is at work, or none."""


class _Speech:
    """How options in what is told are spelt: as whoever typed the command can type them."""

    spellings: Spellings = staticmethod(lambda stage: on_command_line)


def speak(spellings: Spellings) -> None:
    """Spell options from now on as a command has them."""
    _Speech.spellings = staticmethod(spellings)


def _spelt(text: str) -> str:
    return spelt(text, _Speech.spellings(stage_at_work()))


def _in_words(parts: Sequence[Part]) -> list[Part]:
    """Parts whose text names options as they can be typed; so do cells and notes of tables."""
    return [_table_in_words(part) if isinstance(part, Table) else _spelt(part) for part in parts]


def _table_in_words(table: Table) -> Table:
    rows = [
        [_spelt(cell) if type(cell) is str else cell for cell in row]  # of a figure all is known
        for row in table.rows
    ]
    notes = [_spelt(note) for note in table.notes]
    return replace(table, title=_spelt(table.title), rows=rows, notes=notes)


def print_result(result: str | Sequence[Part]) -> None:
    """Write the result, and nothing else, to stdout; tables take the width that there is."""
    if isinstance(result, str):
        sys.stdout.write(_encodable(visible(result.removesuffix("\n") + "\n"), sys.stdout))
    elif sys.stdout.isatty():
        _print(lay_out(_in_words(result), terminal_width()), Console(highlight=False))
    else:
        sys.stdout.write(_encodable(plain(lay_out(_in_words(result))), sys.stdout))
    sys.stdout.flush()  # a full disk behind it is an error of this command


def print_json(value: object) -> None:
    """Write the result as JSON to stdout."""
    print_result(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def note(text: str) -> None:
    """Tell the user something on stderr, word for word."""
    line = Text(_encodable(visible(text), sys.stderr))
    stderr.print(line, soft_wrap=True)


def tell(*parts: Part) -> None:
    """Show tables and text on stderr, in the width of the terminal if it is one."""
    _print(lay_out(_in_words(parts), terminal_width() if stderr.is_terminal else None), stderr)


def fail(text: str) -> None:
    """Tell the user of an error on stderr, its characters such that they cannot act."""
    width = terminal_width() if stderr.is_terminal else None
    sys.stderr.write(_encodable(plain(lay_out([text], width)), sys.stderr))


def terminal_width() -> int:
    """Characters in a line of the terminal."""
    return shutil.get_terminal_size().columns


def _print(lines: Sequence[Line], console: Console) -> None:
    for line in lines:
        pieces = (
            (_encodable(piece.text, console.file), TONES[piece.tone] or ("bold" * piece.strong))
            for piece in line
        )
        console.print(Text.assemble(*pieces), soft_wrap=True)


def _encodable(text: str, stream: object) -> str:
    """Text that the stream can write, whatever its encoding is."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        for sign, words in _PLAIN.items():
            text = text.replace(sign, words)
        return text.encode(encoding, "backslashreplace").decode(encoding)
    return text


class _Visible(logging.Formatter):
    """The message alone, in one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return what is shown of a record."""
        args = record.args if isinstance(record.args, tuple) else ()
        words = (_spelt(a.text) if isinstance(a, Words) else a for a in args)
        return in_one_line(str(record.msg) % tuple(words) if args else record.getMessage())


class _Handler(logging.Handler):
    """Shows what the library logs as notes; a warning that several stages have, once."""

    def __init__(self) -> None:
        super().__init__()
        self._warned: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record; its level if it is more than information."""
        level = f"{record.levelname.lower()}: " if record.levelno > logging.INFO else ""
        try:
            line = level + self.format(record)
            if line not in self._warned:
                tell(line)
            if level:
                self._warned.add(line)
        except Exception:  # as logging's own handlers do: the work goes on
            self.handleError(record)


def show_log(level: int = logging.INFO) -> None:
    """Send what the library logs to stderr."""
    handler = _Handler()
    handler.setFormatter(_Visible())
    logger = logging.getLogger("alphafix")
    logger.handlers = [handler]
    logger.setLevel(level)
