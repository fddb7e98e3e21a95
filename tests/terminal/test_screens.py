"""What a person sees at 60, 80 and 120 columns, piped, without colour and without UTF-8.

The screens are files in ``screens/``; ``ALPHAFIX_WRITE_SCREENS=1 pytest tests/terminal`` writes
them again.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.numpy import save_file

from tests.common import make_problem, write_run
from tests.terminal.screen import in_pipe, in_terminal

pytestmark = pytest.mark.slow

SCREENS = Path(__file__).parent / "screens"
REPOSITORY = Path(__file__).parents[2]

COLOUR = re.compile(rb"\x1b\[(?:\d+;)*[34]\d")

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

# All but the costliest.
QUICK = tuple(line for line in COMMANDS if not line.startswith("compare"))


def make_world(folder: Path) -> Path:
    """A run directory with features, and the model."""
    problem = make_problem(num_classes=16, spread=1.5)
    write_run(folder / "alphafix-run", problem)
    assert problem.head.bias is not None
    tensors = {"fc.weight": problem.head.weight, "fc.bias": problem.head.bias}
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.fixture
def world(tmp_path: Path) -> Path:
    return make_world(tmp_path)


Screen = tuple[str, bytes]


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Screen]:
    """What all commands leave in a terminal of some width, each run once."""

    @functools.cache
    def made(width: int) -> Screen:
        return in_terminal(COMMANDS, width, make_world(tmp_path_factory.mktemp(f"at-{width}")))

    return made


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
def test_screen__fits_and_is_as_kept(width: int, screen: Callable[[int], Screen]) -> None:
    shown, written = screen(width)
    hold(f"{width}.txt", shown)
    # Whatever is on the screen was written in lines that fit: the terminal has broken none.
    text = re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", written).decode()
    lines = [line.rsplit("\r", 1)[-1] for line in text.replace("\r\n", "\n").split("\n")]
    long = [line for line in lines if len(line) > width and not line.startswith(("$ ", "next: "))]
    assert not long
    assert "\u2501" not in shown  # no bar is left
    assert "\u2501".encode() in written  # there were some


def test_screen__changes_alone_have_colour_and_their_sign_too(
    screen: Callable[[int], Screen],
) -> None:
    _, written = screen(120)
    done = written.split(b"$ alphafix evaluate")[1].split(b"$ alphafix compare")[0].decode()
    coloured = re.findall(r"\x1b\[3[12]m([^\x1b]*)\x1b", done)
    assert coloured
    assert all(re.fullmatch(r" *[+-]\d+\.\d \[.*\]", text) for text in coloured)


def test_screen__without_colour_says_the_same(world: Path) -> None:
    shown, written = in_terminal(COMMANDS, 80, world, {"NO_COLOR": "1"})
    assert not COLOUR.search(written)
    hold("80.txt", shown)


def test_screen__of_a_dumb_terminal_has_no_colour(world: Path) -> None:
    shown, written = in_terminal(QUICK, 80, world, {"TERM": "dumb"})
    assert not COLOUR.search(written)
    assert shown.count("exit code 0") == len(QUICK) - 1


def test_pipe__gets_the_full_tables_and_a_line_a_method(world: Path) -> None:
    out, err = in_pipe(COMMANDS, world)
    hold("pipe-stdout.txt", out)
    hold("pipe-stderr.txt", err)
    assert "no room here" not in out + err
    assert "\x1b" not in out + err
    assert "compare: few-bias (1 of 7)\n" in err


def require_all_done(out: str, err: str) -> None:
    assert "Traceback" not in err
    assert out.count("exit code 0") == len(QUICK) - 1


def test_pipe__without_utf8_is_no_error(world: Path) -> None:
    out, err = in_pipe(QUICK, world, {"PYTHONIOENCODING": "ascii"})
    require_all_done(out, err)
    assert (out + err).isascii()
    assert "change in few" in err


def test_pipe__in_the_locale_c_is_no_error(world: Path) -> None:
    """In a process from its start, for which Python looks at the locale."""
    program = "import sys; from tests.terminal.screen import run; run(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", program, *QUICK],
        cwd=world,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "LANG": "C", "LC_ALL": "C"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    require_all_done(done.stdout, done.stderr)
