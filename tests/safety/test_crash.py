"""Kills at every change on the disk; `tests.safety.crash` alone does more, and takes minutes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.safety.disk import Step, after_power_cuts

# At least so many changes each; one process tries several, as it begins by importing everything.
CASES = [
    {"patch --in-place": 50, "features import": 50},
    {"features import, train": 50, "features export": 30},
]


@pytest.mark.slow
@pytest.mark.parametrize("least", CASES, ids=" and ".join)
def test_command__killed_anywhere_is_finished_by_the_same_again(
    least: dict[str, int], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "tests.safety.crash", str(tmp_path), "--small", *least]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name, found in zip(least, map(json.loads, done.stdout.splitlines()), strict=True):
        print(f"{name}: {found['kills']} kill points")
        assert found["wrong"] == []
        assert found["kills"] >= least[name]


def test_power_cuts__keep_what_was_flushed_and_any_of_the_rest() -> None:
    steps = [
        Step("link", 0, path="/w/new"),
        Step("write", 0, data=b"ab"),
        Step("sync", 0),
        Step("write", 0, offset=1, data=b"c"),
        Step("sync folder", path="/w"),
    ]
    states = after_power_cuts("/w", {}, {}, steps)
    contents = {state.get("/w/new") for state in states}
    assert contents == {None, b"", b"ab", b"ac"}
    renamed = [*steps, Step("sync", 0), Step("rename", 0, path="/w/new", other="/w/model")]
    assert {"/w/new": b"ac"} in after_power_cuts("/w", {}, {}, renamed)
    assert {"/w/model": b"ac"} in after_power_cuts("/w", {}, {}, renamed)
