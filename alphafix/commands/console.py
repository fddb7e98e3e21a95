"""What a person sees: tables and bars on stderr, results on stdout."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Iterator
from typing import Literal

import rich.table
from rich.console import Console
from rich.logging import RichHandler
from rich.text import Text

from alphafix.errors import Words, on_command_line, spelt
from alphafix.progress import Advance
from alphafix.shown import in_one_line, visible
from alphafix.values.display import Table

stderr = Console(stderr=True, highlight=False)
if not stderr.is_terminal:
    # Into a file or a pipe, tables take the width that they need.
    stderr = Console(stderr=True, highlight=False, width=200)


def print_result(text: str) -> None:
    """Write the result, and nothing else, to stdout."""
    sys.stdout.write(visible(text if text.endswith("\n") else text + "\n"))
    sys.stdout.flush()  # a full disk behind it is an error of this command


def print_json(value: object) -> None:
    """Write the result as JSON to stdout."""
    print_result(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def note(text: str) -> None:
    """Tell the user something on stderr, word for word."""
    stderr.print(visible(text), markup=False, soft_wrap=True)


def tell(item: Table | str) -> None:
    """Show a table or a line on stderr."""
    if isinstance(item, str):
        note(item)
    else:
        stderr.print(_rich(item))


def _rich(table: Table) -> rich.table.Table:
    """A plain table; the first column is text, the others are right-aligned."""
    # A title that is longer than a narrow table must not be broken into lines.
    heading = Text(in_one_line(table.title), no_wrap=True, overflow="ignore")
    made = rich.table.Table(title=heading, title_justify="left", box=None, pad_edge=False)
    made.header_style = "bold"
    for index, column in enumerate(table.header):
        justify: Literal["left", "right"] = "left" if index in (0, *table.left) else "right"
        made.add_column(column, justify=justify, no_wrap=True)
    for row in table.rows:
        made.add_row(*(Text(in_one_line(str(cell))) for cell in row))
    return made


@contextlib.contextmanager
def bar(what: str, total: int | None) -> Iterator[Advance]:
    """Show a progress bar if stderr is a terminal (an `alphafix.progress.Progress`)."""
    if not stderr.is_terminal:  # where rich would still end the line
        yield lambda count: None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:,.0f}/s" if task.speed else "")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=stderr) as progress:
        task = progress.add_task(what, total=total)
        yield lambda count: progress.advance(task, count)


class _Visible(logging.Formatter):
    """The message alone, in one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return what is shown of a record."""
        args = record.args if isinstance(record.args, tuple) else ()
        words = (spelt(a.text, on_command_line) if isinstance(a, Words) else a for a in args)
        return in_one_line(str(record.msg) % tuple(words) if args else record.getMessage())


class _Lines(logging.Handler):
    """Writes a record as one line."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write it: its level, and what it says."""
        note(f"{record.levelname:<8} {self.format(record)}")


def show_log(level: int = logging.INFO) -> None:
    """Send what the library logs to stderr."""
    handler: logging.Handler
    if stderr.is_terminal:
        handler = RichHandler(
            console=stderr, show_time=False, show_path=False, show_level=True, markup=False
        )
    else:  # where rich would fill each line with spaces
        handler = _Lines()
    handler.setFormatter(_Visible())
    logger = logging.getLogger("alphafix")
    logger.handlers = [handler]
    logger.setLevel(level)
