"""Ctrl-C at any moment of a command is one line, and no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.common import heed_interrupts

# A process that interrupts itself when it begins to load a module, or at its end.
CODE = """\
import atexit, os, signal, sys

moment, *words = sys.argv[1:]

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == moment:
            os.kill(os.getpid(), getattr(signal, os.environ["STOP"]))

sys.meta_path.insert(0, Interrupting())
if moment == "end":
    atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))
sys.argv[1:] = words
from alphafix.__main__ import main
main()
"""

TOLD = "error: interrupted; no result was left half-written\n"

# Before any module of ours, of the parser, of the options, of the work, and while it is done.
MOMENTS = (
    "alphafix.commands.app",
    "typer",
    "alphafix.commands.neighbors.options",
    "pydantic",
    "alphafix.commands.running",
    "numpy",
    "alphafix.commands.outputs",
    "end",
)

NEIGHBORS = ("neighbors", "--run", "new")
EXTRACT = ("extract", "--backbone", "timm:x", "--data", "d", "--run", "new")


def interrupted(
    moment: str, folder: Path, words: Sequence[str] = NEIGHBORS, stop: str = "SIGINT"
) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", CODE, moment, *words],
        cwd=folder,
        env={**os.environ, "STOP": stop, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        preexec_fn=heed_interrupts,
        check=False,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


@pytest.mark.parametrize("moment", MOMENTS)
def test_interrupt__at_any_moment_is_one_line(moment: str, tmp_path: Path) -> None:
    code, told = interrupted(moment, tmp_path)
    assert code == 1
    assert told.splitlines(keepends=True)[-1] == TOLD
    if moment != "end":  # of a command that has said what it lacks
        assert told == TOLD
    assert "Traceback" not in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("moment", ["torch", "torch.autograd"])
def test_interrupt__while_torch_is_loaded_is_one_line(moment: str, tmp_path: Path) -> None:
    assert interrupted(moment, tmp_path, EXTRACT) == (1, TOLD)
    assert list(tmp_path.iterdir()) == []


def test_interrupt__a_request_to_end_while_modules_are_loaded(tmp_path: Path) -> None:
    assert interrupted("typer", tmp_path, stop="SIGTERM") == (1, TOLD)


def test_interrupt__that_is_ignored_from_outside_stays_ignored(tmp_path: Path) -> None:
    """As of a shell's background jobs."""
    code = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n" + CODE
    done = subprocess.run(
        [sys.executable, "-c", code, "typer", "--version"],
        cwd=tmp_path,
        env={**os.environ, "STOP": "SIGINT", "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("alphafix ")
