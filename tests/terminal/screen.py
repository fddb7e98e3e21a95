"""Commands in a real terminal of some width, and what is on its screen in the end.

Each runs in a process of its own, forked from one that has loaded torch and shown nothing yet.
"""

from __future__ import annotations

import fcntl
import os
import pty
import select
import shlex
import struct
import sys
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyte

from tests.processes import become, fork

LINES = 300

# What a person's settings would change.
_UNSET = ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "ALPHAFIX_RUN")


def in_terminal(
    lines: Sequence[str], width: int, folder: Path, environment: Mapping[str, str] | None = None
) -> tuple[str, bytes]:
    """Run commands in a terminal, one after another.

    Args:
        lines: What follows ``alphafix``.
        width: Characters in a line.
        folder: The working folder.
        environment: Variables beside those of this process.

    Returns:
        What the screen shows when all is done, and every byte that was written to it.
    """
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, width, 0, 0))
    name = os.ttyname(its)
    variables = _variables({"TERM": "xterm-256color", **(environment or {})})
    process = fork(_show, tuple(lines), folder, variables, (name, name, name))
    written = b""
    while process.is_alive():
        if select.select([ours], [], [], 0.05)[0]:
            written += os.read(ours, 1 << 16)
    os.close(its)
    while select.select([ours], [], [], 0)[0]:
        try:
            written += os.read(ours, 1 << 16)
        except OSError:  # all is read
            break
    os.close(ours)
    assert process.exitcode == 0, written.decode(errors="replace")
    screen = pyte.Screen(width, LINES)
    pyte.ByteStream(screen).feed(written)
    return "\n".join(line.rstrip() for line in screen.display).rstrip() + "\n", written


def in_pipe(
    lines: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
) -> tuple[str, str]:
    """Stdout and stderr of commands where there is no terminal, one after another."""
    names = tuple(str(folder / f"{stream}.txt") for stream in ("stdin", "stdout", "stderr"))
    for name in names:
        Path(name).touch()
    process = fork(_show, tuple(lines), folder, _variables(environment or {}), names)
    process.join()
    out, err = (Path(name).read_text(encoding="utf-8") for name in names[1:])
    assert process.exitcode == 0, err
    return out, err


def _variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables beside those of this process that are no person's settings."""
    ours = {name: value for name, value in os.environ.items() if name not in _UNSET}
    return {**ours, **environment}


def _show(
    lines: Sequence[str], folder: Path, environment: Mapping[str, str], streams: tuple[str, ...]
) -> None:
    """Run commands in this process, which has shown nothing yet, as its own Python would."""
    become(folder, environment, streams)
    run(lines)


def run(lines: Sequence[str]) -> None:
    """Run commands in this process."""
    from alphafix.commands.app import app

    for line in lines:
        print(f"$ alphafix {line}", flush=True)
        try:
            app(shlex.split(line))
        except SystemExit as end:
            print("exit code", end.code, flush=True)
        sys.stderr.flush()
