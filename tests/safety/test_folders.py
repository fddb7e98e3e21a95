"""A command that fails leaves none of the folders that it made, but for those with something in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from alphafix import files
from alphafix.commands import COMMANDS
from alphafix.commands.app import app
from alphafix.errors import InputError
from alphafix.locks import locked, make_folders

RECIPE = """
stages:
  - train-oltr: {recipe: cifar100-lt, data: none, output: models/new/base}
  - extract: {backbone: "oltr:models/new/base", data: none, run: runs/new/one}
  - neighbors: {run: runs/new/two}
"""

# Each names new folders in new folders, and fails on what is not there.
LINES = {
    "fix": "fix none.pth --backbone timm:resnet18 --data none --run a/b/c -o d/e/f.pth",
    "extract": "extract --backbone timm:test_resnet --data none --run a/b/c",
    "neighbors": "neighbors --features none.npz --head none.npz --run a/b/c --csv d/e/f.csv",
    "train": "train --run a/b/c --tensorboard d/e/f",
    "patch": "patch none.pth --run a/b/c -o d/e/f.pth",
    "evaluate": "evaluate --run a/b/c --junit d/e/f.xml",
    "compare": "compare --run a/b/c",
    "report": "report --run a/b/c --output d/e/f",
    "features merge": "features merge none --run a/b/c",
    "features import": "features import none.npz --run a/b/c",
    "features export": "features export d/e/f.npz --run a/b/c",
    "import": "import alphanet-official none --run a/b/c",
    "run": "run recipe.yaml --run a/b/c",
    "make-lt": "make-lt --data none --output a/b/c",
    "train-oltr": "train-oltr --recipe cifar100-lt --data none --output a/b/c",
    "inspect": "inspect none.pth",
}


def test_lines__are_of_all_commands_that_can_fail_so() -> None:
    assert set(LINES) == set(COMMANDS) - {"demo"}  # which reads nothing


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_command__that_fails_leaves_no_folder_of_its_own(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(RECIPE, encoding="utf-8")
    done = CliRunner().invoke(app, line.split())
    assert done.exit_code == 1, (done.stderr, done.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


def test_command__that_fails_leaves_folders_that_were_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a").mkdir()
    Path("runs/new").mkdir(parents=True)
    Path("recipe.yaml").write_text(RECIPE, encoding="utf-8")
    for line in (LINES["extract"], "run recipe.yaml"):
        assert CliRunner().invoke(app, line.split()).exit_code == 1
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    assert found == ["a", "recipe.yaml", "runs", "runs/new"]


def test_command__whose_folder_cannot_be_made_leaves_none_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    long = "x" * 300
    for line in (f"neighbors --run a/b/{long}", f"make-lt --data none --output a/b/{long}"):
        assert CliRunner().invoke(app, line.split()).exit_code == 1
    with pytest.raises(InputError), files.atomic_path(Path(f"a/b/{long}/file")):
        pass
    os.symlink("nowhere", "link")
    with (
        pytest.raises(InputError, match="the folder link/run cannot be made"),
        locked(Path("link/run"), begins=True),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_make_folders__says_which_it_made(tmp_path: Path) -> None:
    assert make_folders(tmp_path / "a/b") == [tmp_path / "a", tmp_path / "a/b"]
    assert make_folders(tmp_path / "a/b") == []
    assert make_folders(tmp_path / "a/c") == [tmp_path / "a/c"]
