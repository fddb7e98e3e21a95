"""Every command's --help ends with an example that runs as printed; completion works."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from alphafix.commands import LINES, group
from alphafix.commands.app import app
from tests.docs.blocks import REPOSITORY
from tests.docs.commands import check_alphafix, in_folder, run_bash

runner = CliRunner()


def commands() -> Iterator[str]:
    """Every command, and every command of a group, in the order of a user's work."""
    for name in LINES:
        yield name
        # What is exported can be imported.
        yield from (command.name for command in reversed(group(name)) if command.name != name)


def example_of(command: str) -> str:
    """The example that --help prints, its lines joined."""
    shown = runner.invoke(app, [*command.split(), "--help"]).stdout
    _, found, example = shown.partition("\n  Example: ")
    assert found, f"alphafix {command} --help has no example"
    return " ".join(example.split())


def forget_validation(folder: Path) -> None:
    """Features of val as another tool's file, and not yet in the run directory."""
    with in_folder(folder):
        runner.invoke(app, ["features", "export", "--split", "val", "val.npz"])
    shutil.rmtree(folder / "alphafix-run/features/val")


# What an example needs beside the commands before it.
BEFORE: dict[str, Callable[[Path], None]] = {"features import": forget_validation}


@pytest.fixture(scope="module")
def outcomes(world: Callable[[str], Path]) -> dict[str, tuple[int, str]]:
    """Exit code and stderr of each example, run one after another in one folder."""
    folder = world("help")
    found = {}
    for command in commands():
        if command in BEFORE:
            BEFORE[command](folder)
        with in_folder(folder):
            done = runner.invoke(app, shlex.split(example_of(command))[1:])
        found[command] = (done.exit_code, f"{done.stderr}{done.exception or ''}")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("command", list(commands()))
def test_help__example_runs_as_printed(command: str, outcomes: dict[str, tuple[int, str]]) -> None:
    assert example_of(command).startswith(f"alphafix {command}")
    code, stderr = outcomes[command]
    assert code == 0, stderr


def test_help__example_of_the_whole_is_a_command() -> None:
    check_alphafix(shlex.split(example_of(""))[1:])


def test_pages__say_what_help_says() -> None:
    done = subprocess.run(
        [sys.executable, REPOSITORY / "examples/commands/write.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_pages__that_are_stale_are_named(tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "examples/commands", tmp_path / "commands")
    page, script = tmp_path / "commands/train.md", tmp_path / "commands/write.py"
    before = page.read_text()
    page.write_text(before.replace("--rho NUMBER", "--old NUMBER"))
    (tmp_path / "commands/gone.md").write_text("# alphafix gone\n")
    check = [sys.executable, str(script), "--check"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("stale: gone.md, train.md;")
    subprocess.run([sys.executable, str(script)], check=True)
    assert page.read_text() == before
    assert subprocess.run(check, check=False).returncode == 0


def completed(line: str, tmp_path: Path) -> list[str]:
    """What bash offers after ``line``, by the script that --show-completion prints."""
    script = tmp_path / "completion.bash"
    environment = {**os.environ, "SHELL": "/bin/bash"}
    program = Path(sys.executable).with_name("alphafix")
    shown = subprocess.run(
        ["bash", "-c", f"{shlex.quote(str(program))} --show-completion; exit $?"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    script.write_text(shown.stdout)
    typed = line.split(" ")
    asked = (
        f"source {shlex.quote(str(script))}\n"
        f"COMP_WORDS=({' '.join(shlex.quote(word) for word in typed)})\n"
        f"COMP_CWORD={len(typed) - 1}\n"
        "_alphafix_completion alphafix\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    return run_bash(asked, tmp_path).split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("alphafix tr", ["train", "train-oltr"]),
        ("alphafix train --tens", ["--tensorboard"]),
        ("alphafix train --metric ", ["euclidean", "cosine", "random"]),
        ("alphafix features e", ["export"]),
    ],
)
def test_completion__bash_offers_commands_flags_and_values(
    line: str, offered: list[str], tmp_path: Path
) -> None:
    assert completed(line, tmp_path) == offered


def test_completion__is_installed_for_bash(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("alphafix")
    line = f"{shlex.quote(str(program))} --install-completion; exit $?"
    subprocess.run(
        ["bash", "-c", line],
        env={**os.environ, "HOME": str(tmp_path), "SHELL": "/bin/bash"},
        capture_output=True,
        check=True,
    )
    assert "alphafix" in (tmp_path / ".bashrc").read_text()
    assert list(tmp_path.glob(".bash_completions/alphafix.sh"))


def test_help__completion_is_only_at_the_top() -> None:
    assert "--install-completion" in runner.invoke(app, ["--help"]).stdout
    for command in commands():
        assert "completion" not in runner.invoke(app, [*command.split(), "--help"]).stdout
