"""The pipeline of examples/ci, in a shell on real images, and the workflow that runs it."""

from __future__ import annotations

import re
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.numpy import load_file

from tests.docs.blocks import REPOSITORY
from tests.docs.commands import check_statement
from tests.docs.world import BASE, NUM_CLASSES
from tests.shell import bash

PIPELINE = REPOSITORY / "examples/ci/pipeline.sh"
MODEL = {"MODEL": "model.safetensors", "BACKBONE": "timm:resnet18", "DATA": "data"}


@pytest.fixture(scope="module")
def work(world: Callable[[str], Path]) -> Path:
    return world("ci")


def pipeline(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return bash([str(PIPELINE)], folder, **variables)


@pytest.mark.slow
def test_pipeline__a_gate_that_is_not_met_fails_the_build_with_3(work: Path) -> None:
    summary = work / "failed.md"
    variables = {"MIN_FEW_GAIN": "101", "GITHUB_STEP_SUMMARY": str(summary)}
    done = pipeline(work, **MODEL, **variables, OUTPUT="failed")
    assert done.returncode == 3, done.stderr
    assert "\n--min-few-gain 101: few-split gain 100.00 points" in done.stderr
    assert not (work / "failed").exists()
    assert "few" in summary.read_text()
    tests = ET.parse(work / "alphafix-run/gates.xml").getroot()
    assert len(list(tests.iter("failure"))) == 1


@pytest.mark.slow
def test_pipeline__a_gate_that_is_met_ships_the_corrected_model(work: Path) -> None:
    done = pipeline(work, **MODEL)
    assert done.returncode == 0, done.stderr
    assert (work / "release/CARD.md").is_file()
    before = load_file(work / "model.safetensors")
    after = load_file(work / "release/model.safetensors")
    changed = {name for name, value in before.items() if (value != after[name]).any()}
    assert changed == {"fc.weight", "fc.bias"}
    rows = (before["fc.weight"] != after["fc.weight"]).any(1)
    assert rows.nonzero()[0].tolist() == list(range(BASE, NUM_CLASSES))


@pytest.mark.slow
def test_pipeline__a_stage_that_fails_ends_it(work: Path) -> None:
    done = pipeline(work, **{**MODEL, "DATA": "none"}, RUN="other", OUTPUT="other")
    assert done.returncode == 1
    assert done.stderr.count("error: ") == 1
    assert not (work / "other").exists()


def test_pipeline__what_is_needed_is_named(tmp_path: Path) -> None:
    done = pipeline(tmp_path, MODEL="model.safetensors")
    assert done.returncode != 0
    assert "BACKBONE: its architecture" in done.stderr


def test_workflow__runs_the_pipeline_with_variables_that_it_reads() -> None:
    workflow: Any = yaml.safe_load((REPOSITORY / "examples/ci/workflow.yml").read_text())
    (job,) = workflow["jobs"].values()
    read = set(re.findall(r"\$\{([A-Z_]+):[?-]", PIPELINE.read_text()))
    assert set(job["env"]) <= read
    lines = [step["run"] for step in job["steps"] if "run" in step]
    for line in lines:
        check_statement(line)
    assert lines[-1] == "bash ci/pipeline.sh"
    assert all("uses" in step or "run" in step for step in job["steps"])
