"""How long work tells that it moves on, without knowing who watches."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

Advance = Callable[[int], None]
"""Called with the number of units done since the last call."""

Progress = Callable[[str, "int | None"], AbstractContextManager[Advance]]
"""``with progress("what is done", total) as advance: ... advance(n)``; total may be unknown."""


@contextlib.contextmanager
def silent(what: str, total: int | None) -> Iterator[Advance]:
    """Show nothing: the default of every library function."""
    yield lambda count: None
