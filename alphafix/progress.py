"""How long work tells that it moves on, without knowing who watches."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

Advance = Callable[[int], None]
"""Called with the number of units done since the last call."""

Progress = Callable[[str, "int | None"], AbstractContextManager[Advance]]
"""``with progress("what is done", total) as advance: ... advance(n)``; total may be unknown."""


@contextlib.contextmanager
def silent(what: str, total: int | None) -> Iterator[Advance]:
    """Show nothing: the default of every library function."""
    yield lambda count: None


class Whole:
    """One bar for work of several parts, each of which takes a part of the time.

    Args:
        progress: Who is told: of the whole by one call, of each part by a call within that.
        what: What is done.
        costs: What each part takes of the time, in any unit.
    """

    # Units of the bar, so that whatever moves within a part can be told in whole numbers.
    UNITS = 1000

    def __init__(self, progress: Progress, what: str, costs: Sequence[float]) -> None:
        self._progress, self._what, self._costs = progress, what, costs
        self._begun = 0
        self._told = 0
        self._advance: Advance | None = None

    def __enter__(self) -> Whole:
        """Begin."""
        self._stack = contextlib.ExitStack()
        self._advance = self._stack.enter_context(self._progress(self._what, self.UNITS))
        return self

    def __exit__(self, *error: Any) -> None:
        """End."""
        self._stack.close()

    @contextlib.contextmanager
    def part(self, what: str, *, moved_by: str = "training") -> Iterator[Progress]:
        """Do the next part.

        Args:
            what: What it is called.
            moved_by: Which work within it moves the bar.

        Yields:
            Who is told of the work within it.
        """
        before, self._begun = sum(self._costs[: self._begun]), self._begun + 1
        after, number = sum(self._costs[: self._begun]), self._begun

        @contextlib.contextmanager
        def within(name: str, total: int | None) -> Iterator[Advance]:
            done = 0

            def advance(count: int) -> None:
                nonlocal done
                done += count
                if total and name == moved_by:
                    self._reach(before + (after - before) * min(done / total, 1.0))

            yield advance

        with self._progress(f"{what} ({number} of {len(self._costs)})", None):
            yield within
        self._reach(after)

    def _reach(self, cost: float) -> None:
        wanted = int(self.UNITS * cost / sum(self._costs))
        if self._advance is not None and wanted > self._told:
            self._advance(wanted - self._told)
            self._told = wanted
