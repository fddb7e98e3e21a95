"""A folder is the same folder, named relative or absolute, from here or from there."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from alphafix.commands.app import app
from tests.common import make_problem, write_run
from tests.docs.commands import in_folder

PROBLEM = make_problem(num_classes=16, spread=1.5)

LINES = (
    "neighbors --run {run} -k 3",
    "train --run {run} --method few-bias",
    "evaluate --run {run} --bootstraps 100 --groups {here}groups.json",
    "patch {here}model.safetensors --run {run} --card {here}CARD.md",
    "patch {here}model.safetensors --run {run} -o {here}out/model.safetensors",
    "compare --run {run} --methods few-bias --rho 0.5 --seeds 1 --no-on-top -k 3 --bootstraps 100",
    "features export --run {run} {here}val.npz --split val",
    "report --run {run} --bootstraps 100 --output {here}page --groups {here}groups.json",
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every line was run with relative names."""
    folder = tmp_path_factory.mktemp("places") / "world"
    write_run(folder / "run", PROBLEM)
    assert PROBLEM.head.bias is not None
    save_file(
        {"fc.weight": PROBLEM.head.weight, "fc.bias": PROBLEM.head.bias},
        folder / "model.safetensors",
    )
    (folder / "groups.json").write_text(json.dumps({"g": list(PROBLEM.classes.names[:3])}))
    (folder / "out").mkdir()
    with in_folder(folder):
        for line in LINES:
            done = CliRunner().invoke(app, line.format(run="run", here="").split())
            assert done.exit_code == 0, done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("line", LINES, ids=lambda line: " ".join(line.split()[:1]))
def test_again__with_absolute_names_is_up_to_date(line: str, world: Path) -> None:
    words = line.format(run=world / "run", here=f"{world}{os.sep}").split()
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.stderr
    assert "up to date" in done.stderr, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("line", LINES, ids=lambda line: " ".join(line.split()[:1]))
def test_again__where_all_of_it_was_moved_is_up_to_date(
    line: str, world: Path, tmp_path: Path
) -> None:
    shutil.copytree(world, tmp_path / "moved")
    with in_folder(tmp_path / "moved"):
        done = CliRunner().invoke(app, line.format(run="run", here="").split())
    assert done.exit_code == 0, done.stderr
    assert "up to date" in done.stderr, done.stderr
