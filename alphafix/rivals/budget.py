"""How long training may take, and the word to stop it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from alphafix.progress import Advance, Progress

# Methods that are fitted side by side: each holds the logits and gradients of its own.
MOST_AT_ONCE = 4


class OutOfTime(Exception):
    """The time for training is up, or somebody has stopped it."""


class Budget:
    """Seconds for all training together, from `begin` on.

    Training asks `tick` at each step whether it may go on, also in several threads.

    Args:
        seconds: How many; None for as long as it takes.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self.seconds = seconds
        self._end = float("inf")

    def begin(self) -> None:
        """Let the time run."""
        if self.seconds is not None:
            self._end = time.monotonic() + self.seconds

    def stop(self) -> None:
        """Let whatever trains end at its next step."""
        self._end = float("-inf")

    def tick(self) -> None:
        """Go on.

        Raises:
            OutOfTime: If the time is up.
        """
        if time.monotonic() > self._end:
            raise OutOfTime

    def watching(self, progress: Progress) -> Progress:
        """The same progress, each step of which is a `tick`."""

        @contextlib.contextmanager
        def told(what: str, total: int | None) -> Iterator[Advance]:
            with progress(what, total) as advance:

                def step(count: int) -> None:
                    self.tick()
                    advance(count)

                yield step

        return told
