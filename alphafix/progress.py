"""How long work tells that it moves on, without knowing who watches."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
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

    Parts may be done in any order, and side by side in threads.

    Args:
        progress: Who is told: of the whole by one call, of each part by a call within that.
        what: What is done.
        costs: What each part takes of the time by its name, in any unit.
        told_as: What parts are told as, where several are one to a person, who is told of it once.
    """

    # Units of the bar, so that whatever moves within a part can be told in whole numbers.
    UNITS = 1000

    def __init__(
        self,
        progress: Progress,
        what: str,
        costs: Mapping[str, float],
        told_as: Mapping[str, str] | None = None,
    ) -> None:
        names = told_as or {}
        self._told_as = {name: names.get(name, name) for name in costs}
        self._progress, self._what, self._costs = progress, what, dict(costs)
        self._done = dict.fromkeys(costs, 0.0)
        self._begun: set[str] = set()
        self._told = 0
        self._advance: Advance | None = None
        self._lock = threading.Lock()

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
        """Do a part.

        Args:
            what: Its name.
            moved_by: Which work within it moves the bar.

        Yields:
            Who is told of the work within it.
        """

        @contextlib.contextmanager
        def within(name: str, total: int | None) -> Iterator[Advance]:
            done = 0

            def advance(count: int) -> None:
                nonlocal done
                done += count
                if total and name == moved_by:
                    self._reach(what, min(done / total, 1.0))

            if total is None:  # a part of the work within
                self._tell(name)
            yield advance

        with self._lock:
            name = self._told_as[what]
            if name not in self._begun:
                self._begun.add(name)
                self._tell(f"{name} ({len(self._begun)} of {len({*self._told_as.values()})})")
        yield within
        self._reach(what, 1.0)

    def _tell(self, what: str) -> None:
        with self._progress(what, None):
            pass

    def _reach(self, part: str, share: float) -> None:
        with self._lock:
            self._done[part] = max(self._done[part], share * self._costs[part])
            wanted = int(self.UNITS * sum(self._done.values()) / sum(self._costs.values()))
            if self._advance is not None and wanted > self._told:
                self._advance(wanted - self._told)
                self._told = wanted
