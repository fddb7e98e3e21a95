"""Two commands at once: the small version of `tests.safety.races`, which has all pairs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_pairs__end_as_after_a_serial_order(tmp_path: Path) -> None:
    names = "neighbors,patch copy,patch --in-place,features import"
    given = ["--times", "2", "--only", names, "--json", str(tmp_path / "figures.json")]
    done = subprocess.run(
        [sys.executable, "-m", "tests.safety.races", *given], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert (figures["races"], figures["faults"]) == (20, [])
