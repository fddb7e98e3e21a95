"""Command lines of the documentation: checked against the real parser, or run."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner

from alphafix.commands.app import app
from tests.docs.blocks import REPOSITORY, statements, words
from tests.shell import bash

# What .ci/run does for all documentation: these are checked here, not run again.
BY_CI = ("pip", "python -m pip", "pytest", "ruff", "mypy", ".ci/run")


def check_alphafix(arguments: list[str]) -> None:
    """Parse a command line as `alphafix` does, without running it.

    Raises:
        AssertionError: If there is no such command, or it does not take such flags.
    """
    command: Any = typer.main.get_command(app)
    while hasattr(command, "list_commands"):
        assert arguments, "a command is missing"
        name, *arguments = arguments
        with command.context_class(command) as context:
            command = command.get_command(context, name)
        assert command is not None, f"there is no command {name}"
    # What the shell puts in the place of a variable is a number, wherever one is used.
    arguments = ["0" if word.startswith("$") else word for word in arguments]
    try:
        command.make_context(name, arguments)
    except Exception as error:
        raise AssertionError(f"alphafix {name}: {type(error).__name__}: {error}") from error


def check_statement(statement: str) -> None:
    """Check what can be known of a command line without running it.

    Raises:
        AssertionError: If it names an extra, command, flag or script that is not there.
    """
    for command in words(statement):
        if command[:2] == ["pip", "install"]:
            check_install(command[2:])
        if command[0] == "python" and command[1].endswith(".py"):
            assert (REPOSITORY / command[1]).is_file(), f"{command[1]} is not there"
        for place, word in enumerate(command[:-1]):
            if word == "alphafix" and (place == 0 or command[place - 1] == "--"):
                check_alphafix(command[place + 1 :])


def check_install(arguments: list[str]) -> None:
    """Check the extras that `pip install` is given for this project."""
    for argument in arguments:
        if match := re.fullmatch(r"(?:\.|alphafix)\[([\w,-]+)\]", argument):
            unknown = set(match[1].split(",")) - extras()
            assert not unknown, f"pyproject.toml has no extra {', '.join(unknown)}"


def extras() -> set[str]:
    """Names of the optional dependencies in pyproject.toml."""
    text = (REPOSITORY / "pyproject.toml").read_text()
    section = text.split("[project.optional-dependencies]\n")[1].split("\n[")[0]
    return set(re.findall(r"^([\w-]+) = \[", section, re.MULTILINE))


def by_ci(statement: str) -> bool:
    """Whether .ci/run does it."""
    return any(statement.startswith(f"{tool} ") or statement == tool for tool in BY_CI)


def run_shell(text: str, folder: Path) -> None:
    """Run a shell block in ``folder``; what .ci/run does is checked instead.

    Lines that are nothing but `alphafix ...` run in this process, which saves the start of
    Python and torch; a block with any other line runs in bash.

    Raises:
        AssertionError: If a line fails.
    """
    lines = statements(text)
    for line in lines:
        if by_ci(line):
            check_statement(line)
    lines = [line for line in lines if not by_ci(line)]
    if all(_is_plain(line) for line in lines):
        for line in lines:
            run_alphafix(words(line)[0][1:], folder)
    else:
        run_bash("\n".join(lines), folder)


def _is_plain(line: str) -> bool:
    return line.startswith("alphafix ") and not re.search(r"[|&;<>$`(]", line)


def run_alphafix(arguments: list[str], folder: Path) -> str:
    """Run a command in this process; return its stdout."""
    with in_folder(folder):
        done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, f"alphafix {' '.join(arguments)}\n{done.stderr}\n{done.exception}"
    return done.stdout


def run_bash(text: str, folder: Path, code: int = 0) -> str:
    """Run lines in bash; return their stdout."""
    done = bash(["-euo", "pipefail", "-c", text], folder)
    assert done.returncode == code, f"{text}\n{done.stderr}"
    return done.stdout


@contextlib.contextmanager
def in_folder(folder: Path) -> Iterator[None]:
    """Make ``folder`` the working directory for a while."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
