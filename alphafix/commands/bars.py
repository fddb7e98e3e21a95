"""How long work is shown: one bar in a terminal, now and then a line where there is none."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from alphafix.commands import console
from alphafix.progress import Advance

if TYPE_CHECKING:
    import rich.progress

# Seconds between two lines about the same work where there is no terminal.
BETWEEN = 30.0

# The longest description beside a bar; a narrow terminal needs room for the bar itself.
DESCRIPTION = 34


class Bars:
    """Shows work, an `alphafix.progress.Progress`. Work within other work is a part of its bar."""

    def __init__(self) -> None:
        self._outer: _Bar | _Lines | None = None

    @contextlib.contextmanager
    def __call__(self, what: str, total: int | None) -> Iterator[Advance]:
        """Show work while it lasts."""
        if self._outer is not None:
            self._outer.name(what)
            yield lambda count: None
            return
        kind = _Bar if console.stderr.is_terminal else _Lines
        self._outer = kind(what, total)
        try:
            with self._outer:
                yield self._outer.advance
        finally:
            self._outer = None


class _Bar:
    """A bar that is gone when the work is done."""

    def __init__(self, what: str, total: int | None) -> None:
        from rich.progress import (
            BarColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        self.what = what
        self.progress: rich.progress.Progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console.stderr,
            transient=True,
            expand=True,
        )
        self.task = self.progress.add_task(_short(what), total=total)

    def __enter__(self) -> None:
        self.progress.start()

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def advance(self, count: int) -> None:
        self.progress.advance(self.task, count)

    def name(self, part: str) -> None:
        self.progress.update(self.task, description=_short(f"{self.what}: {part}"))


class _Lines:
    """A line for each part, and one now and then of what takes long."""

    def __init__(self, what: str, total: int | None) -> None:
        self.what, self.total, self.done = what, total, 0
        self.begun = self.told = time.monotonic()

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        pass

    def advance(self, count: int) -> None:
        self.done += count
        now = time.monotonic()
        if now - self.told < BETWEEN:
            return
        self.told = now
        share = ""
        if self.total:
            left = (now - self.begun) * max(self.total - self.done, 0) / max(self.done, 1)
            share = f"{self.done / self.total:.0%}, about {left:,.0f} s left"
        console.note(f"{self.what}: {share or f'{self.done:,} done'}")

    def name(self, part: str) -> None:
        self.told = time.monotonic()
        console.note(f"{self.what}: {part}")


def _short(text: str) -> str:
    return text if len(text) <= DESCRIPTION else f"{text[: DESCRIPTION - 3]}..."
