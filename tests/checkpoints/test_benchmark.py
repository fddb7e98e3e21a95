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
    sizes = {"gigabytes": 0.06, "repeats": 1, "large": 0.5, "shared": 0.06}
    command = [sys.executable, str(SCRIPT), *(f"--{name}={size}" for name, size in sizes.items())]
    done = subprocess.run(
        [*command, "--json", "--folder", str(tmp_path)], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert all(set(entry) == {"what", "value", "unit", "target", "met"} for entry in found)
    shared = [entry for entry in found if "image" in entry["what"]]
    own = [entry for entry in found if entry not in shared]
    targets = [entry["target"] for entry in own if entry["met"] is not None]
    assert targets == ["<= 1.2", "<= 300", "<= 1", "<= 1.2", "<= 300"]
    assert all(entry["value"] > 0 for entry in own)
    # File systems on loop devices: measured, or said why not.
    for kind in ("btrfs", "xfs"):
        figures = [entry for entry in shared if f"{kind} image" in entry["what"]]
        if figures[0]["value"] is None:
            assert "not here (" in figures[0]["what"]
            assert len(figures) == 1
        else:
            assert all(entry["value"] > 0 for entry in figures)
            assert [entry["target"] for entry in figures] == [None, "<= 0.1", "<= 0.1"]
    assert list(tmp_path.iterdir()) == []
