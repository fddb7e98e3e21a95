"""The text example runs on real text, and its README shows the rows that it prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples" / "text"

ROW = re.compile(r"^\| ([^|\s][^|]*) \|(.*)\|$", re.MULTILINE)


def test_compare__prints_the_rows_of_the_readme() -> None:
    # The first source files by name: some 30 modules, from abc to distutils or email.
    command = [sys.executable, str(EXAMPLE / "compare.py"), "--files", "160"]
    done = subprocess.run(
        [*command, "--seeds", "1", "--trials", "1"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # on a busy machine more threads only wait
        capture_output=True,
        text=True,
        check=True,
    )
    rows = dict(ROW.findall(done.stdout))
    readme = ROW.findall((EXAMPLE / "README.md").read_text())
    assert [name for name, _ in readme] == [*rows, *rows]
    assert done.stderr == "seed 0 done\n"
    figures = {name: [float(cell) for cell in cells.split("|")] for name, cells in rows.items()}
    assert all(len(values) == 5 for values in figures.values())
    # It learns: by chance, a tenth would be right.
    few, *_, overall, _ = figures["LogisticRegression"]
    assert overall > 50
    assert figures["AlphaNetClassifier, rho 0.5"][0] > few
