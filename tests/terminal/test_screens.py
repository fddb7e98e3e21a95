"""What a person sees at 60, 80 and 120 columns, piped, without colour and without UTF-8.

The screens are files in ``screens/``; ``ALPHAFIX_WRITE_SCREENS=1 pytest tests/terminal`` writes
them again.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import save_file

from tests.common import make_problem, write_run
from tests.terminal.screen import in_terminal

pytestmark = pytest.mark.slow

SCREENS = Path(__file__).parent / "screens"

# One after the other in one folder, with bars, tables, text and errors.
COMMANDS = (
    "neighbors -k 5",
    "train --method few-bias --max-overall-drop 40 --confidence 0.5",
    "patch model.safetensors",
    "evaluate --bootstraps 100 --min-few-gain 1 --max-overall-drop 30",
    "compare --methods few-bias,tau-norm --rho 1 --seeds 1 --no-on-top -k 3 --bootstraps 100",
    "inspect model.safetensors",
    "train --method lda",
)

PROGRAM = """
import shlex, sys
from alphafix.commands.app import app
for line in {lines!r}:
    print("$ alphafix " + line, flush=True)
    try: app(shlex.split(line))
    except SystemExit as end: print("exit code", end.code, flush=True)
"""


def program(*lines: str) -> str:
    return PROGRAM.format(lines=lines)


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A run directory with features, and the model."""
    problem = make_problem(num_classes=16, spread=1.5)
    write_run(tmp_path / "alphafix-run", problem)
    assert problem.head.bias is not None
    tensors = {"fc.weight": problem.head.weight, "fc.bias": problem.head.bias}
    save_file(tensors, tmp_path / "model.safetensors")
    return tmp_path


def piped(folder: Path, *lines: str, **environment: str) -> tuple[str, str]:
    """Stdout and stderr of the same where there is no terminal."""
    done = subprocess.run(
        [sys.executable, "-c", program(*lines)],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        encoding=environment.get("PYTHONIOENCODING", "utf-8"),
        check=True,
    )
    return done.stdout, done.stderr


def hold(name: str, shown: str) -> None:
    """Compare with the screen that is kept; AlphaNet's own rows depend on the machine."""
    shown = re.sub(r"(?m)^(AlphaNet|alphanet|in this run: alphanet)\b.*\n", "", shown)
    shown = re.sub(r"(?ms)^Nearest against random.*?(?=^look at|^\$ |\Z)", "", shown)
    path = SCREENS / name
    if os.environ.get("ALPHAFIX_WRITE_SCREENS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(shown, encoding="utf-8")
    assert shown == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_screen__fits_and_is_as_kept(width: int, world: Path) -> None:
    shown, written = in_terminal(program(*COMMANDS), width, world)
    hold(f"{width}.txt", shown)
    # Whatever is on the screen was written in lines that fit: the terminal has broken none.
    text = re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", written).decode()
    lines = [line.rsplit("\r", 1)[-1] for line in text.replace("\r\n", "\n").split("\n")]
    long = [line for line in lines if len(line) > width and not line.startswith(("$ ", "next: "))]
    assert not long
    assert "\u2501" not in shown  # no bar is left
    assert "\u2501".encode() in written  # there were some


def test_screen__changes_alone_have_colour_and_their_sign_too(world: Path) -> None:
    _, written = in_terminal(program(*COMMANDS[:4]), 120, world)
    done = written.split(b"$ alphafix evaluate")[1].decode()
    coloured = re.findall(r"\x1b\[3[12]m([^\x1b]*)\x1b", done)
    assert coloured
    assert all(re.fullmatch(r" *[+-]\d+\.\d \[.*\]", text) for text in coloured)


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_screen__without_colour_says_the_same(environment: dict[str, str], world: Path) -> None:
    shown, written = in_terminal(program(*COMMANDS), 80, world, environment)
    assert not re.search(rb"\x1b\[(?:\d+;)*[34]\d", written)
    if "NO_COLOR" in environment:
        hold("80.txt", shown)


def test_pipe__gets_the_full_tables_and_a_line_a_method(world: Path) -> None:
    out, err = piped(world, *COMMANDS)
    hold("pipe-stdout.txt", out)
    hold("pipe-stderr.txt", err)
    assert "no room here" not in out + err
    assert "\x1b" not in out + err
    assert "compare: few-bias (1 of 7)\n" in err


@pytest.mark.parametrize(
    "environment", [{"LANG": "C", "LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}]
)
def test_pipe__without_utf8_is_no_error(environment: dict[str, str], world: Path) -> None:
    out, err = piped(world, *COMMANDS, **environment)
    assert "exit code 0" in out
    assert "Traceback" not in err
    assert len(re.findall("exit code 0", out)) == len(COMMANDS) - 1
    if "PYTHONIOENCODING" in environment:
        assert (out + err).isascii()
        assert "change in few" in err
