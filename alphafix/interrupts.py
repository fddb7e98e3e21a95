"""Ctrl-C, and a request to end, before work begins and while it is done.

While modules are loaded nothing is begun, and an interrupt ends the process at once: libraries that
are loaded in part lose it, or show a traceback of their own. Once work begins it is a
KeyboardInterrupt, on whose way out all is tidied.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

TOLD = "error: interrupted; no result was left half-written"


def end_at_once() -> None:
    """Let interrupts end the process with one line, unless whoever started it has them ignored."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _end)
    signal.signal(signal.SIGTERM, _end)


def begin_work() -> None:
    """From now on, where `end_at_once` was called, interrupts are KeyboardInterrupts."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is _end:
            signal.signal(number, _raise)


def _end(number: int, frame: object) -> None:
    for stream in (sys.stdout, sys.stderr):
        # Nobody may read it, or it may be in the middle of being written.
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            stream.flush()
    os.write(2, f"{TOLD}\n".encode())
    os._exit(1)


def _raise(number: int, frame: object) -> None:
    raise KeyboardInterrupt
