"""How much of the processors other processes use, while this one begins."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

# What the system counts of each processor (Linux; elsewhere nothing is known of others).
_COUNTED = Path("/proc/stat")

# Seconds that are measured at the least: the system counts in hundredths.
_LEAST = 0.3


@dataclass(frozen=True)
class Load:
    """What the processors that this process may use have done up to a moment, in seconds.

    Attributes:
        at: The moment.
        busy: Seconds that they have worked, all together; None where that is not known.
        own: Of these, this process's, and those of its children that have ended.
    """

    at: float
    busy: float | None
    own: float

    @classmethod
    def now(cls) -> Load:
        """Up to now."""
        return cls(time.monotonic(), _busy(), sum(os.times()[:4]))

    def others(self, until: Load) -> float:
        """How many processors others have used since, on average; 0 if that is not known."""
        seconds = until.at - self.at
        if self.busy is None or until.busy is None or seconds < _LEAST:
            return 0.0
        return max(0.0, (until.busy - self.busy - (until.own - self.own)) / seconds)


def _busy() -> float | None:
    if not hasattr(os, "sched_getaffinity"):
        return None
    mine = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    try:
        lines = [line.split() for line in _COUNTED.read_text().splitlines()]
        # User, nice, system, then idle and waiting, then interrupts; what a hypervisor gives to
        # other machines is not work of others here.
        ticks = [
            sum(int(one) for one in (*line[1:4], *line[6:8])) for line in lines if line[0] in mine
        ]
        return sum(ticks) / os.sysconf("SC_CLK_TCK") if ticks else None
    except (OSError, ValueError, IndexError):
        return None


_begun: list[Load] = []


def begin() -> None:
    """Measure from now on; what runs before is not counted."""
    _begun[:] = [Load.now()]


def processors_of_others() -> float:
    """How many processors others have used since `begin`, on average; 0 without it."""
    return _begun[0].others(Load.now()) if _begun else 0.0
