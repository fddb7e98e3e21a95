"""What a person sees: tables and bars on stderr, results on stdout."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from alphafix.errors import Words, on_command_line, spelt
from alphafix.report.layout import Line, lay_out, plain
from alphafix.shown import in_one_line, visible
from alphafix.values.display import Part

stderr = Console(stderr=True, highlight=False)

# Changes to the better and to the worse; their signs say the same without colour.
TONES = {1: "green", -1: "red", 0: ""}

# What stands for our own signs where the output cannot write them.
_PLAIN = {"\u00b1": "+-", "\u2192": "->", "\u0394": "change in", "\u2713": "ok"}


def print_result(result: str | Sequence[Part]) -> None:
    """Write the result, and nothing else, to stdout; tables take the width that there is."""
    if isinstance(result, str):
        sys.stdout.write(_encodable(visible(result.removesuffix("\n") + "\n"), sys.stdout))
    elif sys.stdout.isatty():
        _print(lay_out(result, terminal_width()), Console(highlight=False))
    else:
        sys.stdout.write(_encodable(plain(lay_out(result)), sys.stdout))
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
    _print(lay_out(parts, terminal_width() if stderr.is_terminal else None), stderr)


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
        words = (spelt(a.text, on_command_line) if isinstance(a, Words) else a for a in args)
        return in_one_line(str(record.msg) % tuple(words) if args else record.getMessage())


class _Handler(logging.Handler):
    """Shows what the library logs as notes."""

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record; its level if it is more than information."""
        level = f"{record.levelname.lower()}: " if record.levelno > logging.INFO else ""
        try:
            tell(level + self.format(record))
        except Exception:  # as logging's own handlers do: the work goes on
            self.handleError(record)


def show_log(level: int = logging.INFO) -> None:
    """Send what the library logs to stderr."""
    handler = _Handler()
    handler.setFormatter(_Visible())
    logger = logging.getLogger("alphafix")
    logger.handlers = [handler]
    logger.setLevel(level)
