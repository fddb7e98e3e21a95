"""Names from files of others reach a terminal, a table and a spreadsheet as text."""

from __future__ import annotations

import ast
import csv
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file
from typer.testing import CliRunner

import alphafix
from alphafix.commands.app import app
from alphafix.errors import InputError
from alphafix.shown import csv_text, in_one_line, visible
from tests.common import make_problem, write_run

EVIL = (
    "\x1b]0;title\x07red\x1b[31m",
    "line\nerror: forged",
    "right\u202eleft",
    "c1\x9b2J",
    "=cmd|' /C calc'!A0",
    "nul\x00",
)

EVIL_TOO = ("few\nerror: forged", "=1+1", "@few\x1b]0;x\x07")


@given(st.text())
def test_visible__leaves_nothing_that_acts_and_all_else_as_it_is(text: str) -> None:
    shown = in_one_line(text)
    assert not any(ord(sign) < 32 or 0x7F <= ord(sign) < 0xA0 for sign in shown)
    assert visible(shown) == shown


def test_csv__cells_that_would_run_are_quoted_and_numbers_are_not() -> None:
    rows = list(csv.reader(csv_text([["=1+1", "-0.5", -0.5, "@x", "+a\nb", "name"]]).splitlines()))
    assert rows == [["'=1+1", "-0.5", "-0.5", "'@x", "'+a\\nb", "name"]]


def test_error__of_a_foreign_name_forges_no_line() -> None:
    text = str(InputError("no class", got="x\nerror: forged\x1b[2J", expected="a class"))
    assert [line[:2] for line in text.splitlines()] == ["no", "  ", "  ", "  "]
    assert "\x1b" not in text


def test_commands__show_foreign_names_as_text(tmp_path: Path) -> None:
    problem = make_problem()
    names = (*problem.classes.names[: -len(EVIL)], *EVIL)
    problem = replace(problem, classes=replace(problem.classes, names=names))
    run, table = tmp_path / "run", tmp_path / "n.csv"
    write_run(run, problem)
    given = ["neighbors", "--run", str(run), "-k", "3", "--csv", str(table)]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 0, result.stderr
    for text in (result.stdout, result.stderr, table.read_text()):
        assert not set(text) & set("\x1b\x07\x9b\u202e\x00")
        assert not any(line.startswith("error") for line in text.splitlines())
    cells = [cell for row in csv.reader(table.read_text().splitlines()) for cell in row]
    assert "'=cmd|' /C calc'!A0" in cells
    records = CliRunner().invoke(app, [*given, "--json"])
    found = {record["name"] for record in json.loads(records.stdout)}
    assert found <= set(names)


@pytest.mark.slow
def test_files__show_foreign_names_as_text(tmp_path: Path) -> None:
    """Whatever any command writes for people, with names that act in all places that have one."""
    problem = make_problem()
    names = (*EVIL, *problem.classes.names[len(EVIL) : -len(EVIL_TOO)], *EVIL_TOO)
    problem = replace(problem, classes=replace(problem.classes, names=names))
    run, out = tmp_path / "run", tmp_path / "out"
    write_run(run, problem)
    model = tmp_path / "model\x1b[2J`|.safetensors"
    tensors = {"fc.weight": problem.head.weight, "fc.bias": problem.head.bias_or_zeros}
    save_file(tensors, model)
    less = ["--seeds", "1", "-k", "2", "--bootstraps", "100"]
    gates = ["--bootstraps", "100", "--max-class-drop", "0", "--min-few-gain", "-100"]
    for words, code in (
        (["neighbors", "-k", "3", "--csv", str(out / "n.csv")], 0),
        (["train", "--seeds", "1", "--epochs", "5"], 0),
        (["evaluate", *gates, "--junit", str(out / "j.xml"), "--markdown", str(out / "e.md")], 3),
        (["compare", "--methods", "tau-norm", "--rho", "1", "--no-on-top", *less], 0),
        (["report", "--output", str(out / "report"), "--bootstraps", "100"], 0),
        (["patch", str(model), "--card", str(out / "card.md")], 0),
    ):
        done = CliRunner().invoke(app, [*words, "--run", str(run)])
        assert done.exit_code == code, done.stderr
        for text in (done.stdout, done.stderr):
            assert not acting(text)
            assert not any(line.startswith("error: forged") for line in text.splitlines())
    shown = [p for p in (*out.rglob("*"), *run.rglob("*")) if p.suffix in PEOPLE_READ]
    assert {path.suffix for path in shown} == PEOPLE_READ
    for path in shown:
        text = path.read_text(encoding="utf-8")
        assert not acting(text), path
        if path.suffix not in (".html", ".svg"):  # where a line break is a space
            assert "\nerror: forged" not in text, path
        if path.suffix == ".csv":
            for row in csv.reader(text.splitlines()):
                assert not any(cell.startswith(("=", "@")) for cell in row), path


def acting(text: str) -> str:
    """Characters of a text that act, but line breaks and tabs of our own."""
    return re.sub(r"[^\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]", "", text)


PEOPLE_READ = {".csv", ".xml", ".md", ".html", ".svg"}


def test_package__has_one_place_that_writes_csv_and_two_that_print() -> None:
    """So that no text gets around `alphafix.shown`."""
    package = Path(alphafix.__file__).parent
    found: dict[str, set[str]] = {"csv": set(), "print": set()}
    for path in package.rglob("*.py"):
        name = str(path.relative_to(package))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                word = f"{node.value.id}.{node.attr}"
            elif isinstance(node, ast.Name):
                word = node.id
            else:
                continue
            if word in ("csv.writer", "csv.DictWriter"):
                found["csv"].add(name)
            if word in ("print", "typer.echo", "sys.stdout", "sys.stderr", "Console"):
                found["print"].add(name)
    assert found["csv"] == {"shown.py"}
    # Before anything is loaded, a line of our own is said of an interrupt.
    assert found["print"] == {"commands/app.py", "commands/console.py", "interrupts.py"}


def test_command__whose_output_cannot_be_written_fails_in_one_line(tmp_path: Path) -> None:
    write_run(tmp_path, make_problem())
    command = [sys.executable, "-m", "alphafix", "neighbors", "-k", "3", "--run", str(tmp_path)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: No space left on device"
