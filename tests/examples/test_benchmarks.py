"""The benchmark scripts: that for a GPU runs on the CPU in tiny sizes, and all of them load."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "examples" / "benchmarks"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "counts")
NUMBERS = [
    (name, flag)
    for name in SCRIPTS
    for flag in re.findall(
        r'"(--[\w-]+)",\s*type=(?:int|float|positive|above_zero)\b',
        (FOLDER / f"{name}.py").read_text(encoding="utf-8"),
    )
]

# On a machine without a GPU these say so.
NOT_HERE = ("tests", "nccl")


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts' folder as the first to import from."""
    monkeypatch.syspath_prepend(str(FOLDER))


@pytest.mark.parametrize("name", SCRIPTS)
def test_script__loads(name: str, scripts: None) -> None:
    assert callable(importlib.import_module(name).main)


def test_numbers__are_found() -> None:
    assert ("discriminant", "--samples") in NUMBERS
    assert ("patch", "--gigabytes") in NUMBERS
    assert len(NUMBERS) >= 18


@pytest.mark.parametrize(("name", "flag"), NUMBERS)
@pytest.mark.parametrize("value", ["0", "-1", "nan", "many"])
def test_numbers__that_cannot_be_meant_are_a_usage_error(
    name: str,
    flag: str,
    value: str,
    scripts: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    main = importlib.import_module(name).main
    monkeypatch.setattr(sys, "argv", [f"{name}.py", f"{flag}={value}"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"argument {flag}: '{value}' is no " in said


PARTS = ("equality", "extract", "jpeg", "nccl", "oltr", "search", "tests", "trainer")


@pytest.mark.parametrize("name", PARTS)
def test_gpu__each_part_runs_on_the_cpu_in_tiny_sizes(name: str, scripts: None) -> None:
    gpu: Any = importlib.import_module("gpu")
    assert set(gpu.PARTS) == set(PARTS)
    found = gpu.measured(name, gpu.Place(torch.device("cpu"), gpu.TINY))
    assert "failed" not in found
    if name in NOT_HERE:
        assert "GPU" in found["skipped"]
        return
    assert found["figures"]
    for entry in found["figures"]:
        assert set(entry) == {"what", "value", "unit", "target", "met"}
        assert entry["value"] >= 0
    if name == "equality":  # the CPU against itself
        assert all(entry["met"] in (True, None) for entry in found["figures"])


def test_gpu__a_part_that_fails_hides_no_other(
    scripts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu: Any = importlib.import_module("gpu")

    def broken(place: Any) -> Any:
        raise RuntimeError("CUDA error: an illegal memory access")

    monkeypatch.setitem(gpu.PARTS, "search", (broken, 1))
    found = gpu.measured("search", gpu.Place(torch.device("cpu"), gpu.TINY))
    assert found["failed"] == "RuntimeError: CUDA error: an illegal memory access"
    gpu.show({"where": gpu.where(torch.device("cpu")), "parts": [found]})


@pytest.mark.slow
def test_gpu__says_all_as_json() -> None:
    command = [sys.executable, str(FOLDER / "gpu.py"), "--device", "cpu", "--tiny", "--json"]
    done = subprocess.run(
        [*command, "--parts", "search", "nccl"], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert found["where"]["torch"] == torch.__version__
    assert [part["part"] for part in found["parts"]] == ["search", "nccl"]
    assert found["parts"][1]["skipped"].startswith("two GPUs are needed")
