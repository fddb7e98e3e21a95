"""Names from files of others reach a terminal, a table and a spreadsheet as text."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

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


def test_command__whose_output_cannot_be_written_fails_in_one_line(tmp_path: Path) -> None:
    write_run(tmp_path, make_problem())
    command = [sys.executable, "-m", "alphafix", "neighbors", "-k", "3", "--run", str(tmp_path)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: No space left on device"
