"""Commands in a real terminal of some width, and what is on its screen in the end."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pyte

LINES = 300


def in_terminal(
    program: str, width: int, folder: Path, environment: dict[str, str] | None = None
) -> tuple[str, bytes]:
    """Run a Python program in a terminal.

    Args:
        program: Its source.
        width: Characters in a line.
        folder: The working folder.
        environment: Variables beside those of this process.

    Returns:
        What the screen shows when all is done, and every byte that was written to it.
    """
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, width, 0, 0))
    unset = ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "ALPHAFIX_RUN")
    inherited = {name: value for name, value in os.environ.items() if name not in unset}
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**inherited, "TERM": "xterm-256color", **(environment or {})},
        stdin=its,
        stdout=its,
        stderr=its,
    )
    os.close(its)
    written = b""
    while True:
        try:
            part = os.read(ours, 1 << 16)
        except OSError:  # nobody writes to it any more
            break
        if not part:
            break
        written += part
    os.close(ours)
    assert process.wait() == 0, written.decode(errors="replace")
    screen = pyte.Screen(width, LINES)
    pyte.ByteStream(screen).feed(written)
    return "\n".join(line.rstrip() for line in screen.display).rstrip() + "\n", written
