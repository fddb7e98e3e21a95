"""The benchmark script runs, and reports in the format that all benchmarks share."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "benchmarks" / "patch.py"


@pytest.mark.slow
def test_benchmark__json(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(SCRIPT),
        "--gigabytes",
        "0.06",
        "--repeats",
        "1",
        "--large",
        "0.5",
    ]
    done = subprocess.run(
        [*command, "--json", "--folder", str(tmp_path)], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert all(set(entry) == {"what", "value", "unit", "target", "met"} for entry in found)
    targets = [entry["target"] for entry in found if entry["met"] is not None]
    assert targets == ["<= 1.2", "<= 300", "<= 1", "<= 1.2", "<= 300"]
    assert all(entry["value"] > 0 for entry in found)
    assert list(tmp_path.iterdir()) == []
