"""What would stop a later stage of a recipe stops it before the first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.recipes.test_run import change, run, work

__all__ = ["work"]  # the fixture


def refused(work: Path, *arguments: str, plan: bool = True) -> str:
    """What is said before any work; of a dry run the same."""
    before = {path: path.read_bytes() for path in work.rglob("*") if path.is_file()}
    found = run(work, *arguments, code=1)
    assert {path: path.read_bytes() for path in work.rglob("*") if path.is_file()} == before
    assert found.stdout == ""
    if plan:
        assert run(work, *arguments, "--dry-run", code=1).stderr == found.stderr
    return found.stderr


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("model.alphafix.safetensors", "patch.head=null"),
        ("out.safetensors", "patch.output=out.safetensors"),
        ("out/model.safetensors", "patch.output=out"),
        ("model.alphafix-delta.safetensors", "patch.delta=true"),
        ("CARD.md", "patch.card=CARD.md"),
        ("gates.xml", "evaluate.junit=gates.xml"),
        ("results/report/index.html", "report.max_size=2MB"),
    ],
)
def test_run__what_is_where_a_later_stage_writes_is_told_first(
    name: str, setting: str, work: Path
) -> None:
    change(work, "      file: model.safetensors", "      file: model.safetensors\n  - report: {}")
    (work / name).parent.mkdir(parents=True, exist_ok=True)
    (work / name).write_bytes(b"mine")
    said = refused(work, "--set", setting)
    assert f"error: {name} exists already" in said
    assert "--overwrite" in said
    run(work, "--set", setting, "--overwrite", "--dry-run")


def test_run__a_file_that_another_run_patched_is_told_first(work: Path) -> None:
    run(work)
    run(
        work,
        "--run",
        str(work / "other"),
        "--set",
        "train.rho=1",
        "--set",
        "patch.output=other.safetensors",
    )
    (work / "other" / "report.json").unlink()
    said = refused(work, "--run", str(work / "other"), "--set", "train.rho=1")
    assert "error: model.alphafix.safetensors exists already" in said
    assert not (work / "other" / "report.json").exists()


def test_run__what_it_wrote_itself_is_not_in_its_way(work: Path) -> None:
    change(work, "      bootstraps: 100", "      bootstraps: 100\n      junit: gates.xml")
    run(work)
    run(work, "--dry-run")
    # As after a kill before the patch was recorded: it is there byte by byte.
    before = (work / "model.alphafix.safetensors").read_bytes()
    for record in (work / "results" / "made").glob("patch*.json"):
        record.unlink()
    run(work)
    assert (work / "model.alphafix.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("patch.file=none.safetensors", "none.safetensors is not there"),
        ("patch.correction=none.safetensors", "none.safetensors is not there"),
        ("evaluate.groups=none.tsv", "none.tsv is not there"),
    ],
)
def test_run__what_a_later_stage_lacks_is_told_first(setting: str, words: str, work: Path) -> None:
    said = refused(work, "--set", setting, plan=False)
    assert words in said
    assert words in run(work, "--set", setting, "--dry-run").stdout  # which shows all there is


def test_run__a_model_of_no_known_format_is_told_first(work: Path) -> None:
    said = refused(work, "--set", "patch.file=head.npz")
    assert "head.npz holds NumPy arrays and is no model file" in said


def test_run__what_an_earlier_stage_makes_is_not_lacking(work: Path) -> None:
    change(work, "  - train", "  - train: {seeds: 1, rho: 1, epochs: 2, run: other}\n  - train")
    change(
        work,
        "  - train: {seeds",
        "  - neighbors: {features: [features.npz], head: head.npz, "
        "k: 3, run: other}\n  - train: {seeds",
    )
    recipe = (work / "recipe.yaml").read_text()
    recipe += "      output: first.safetensors\n"
    recipe += "      correction: results/alphanet.safetensors\n"
    (work / "recipe.yaml").write_text(recipe)
    run(work)
    assert (work / "first.safetensors").is_file()


def test_run__a_model_that_is_patched_is_told_first(work: Path) -> None:
    run(work, "--set", "patch.in_place=true")
    before = (work / "model.safetensors").read_bytes()
    said = refused(work, "--set", "patch.in_place=true", "--set", "train.rho=1", "--overwrite")
    assert "model.safetensors has been patched in place" in said
    assert (work / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("setting", ["patch.output={}/new.safetensors", "report.output={}/page"])
def test_run__a_folder_that_cannot_be_written_is_told_first(setting: str, work: Path) -> None:
    change(work, "      file: model.safetensors", "      file: model.safetensors\n  - report: {}")
    said = refused(work, "--set", setting.format("recipe.yaml"))
    assert "recipe.yaml, which is no folder" in said
    closed = work / "closed"
    closed.mkdir(mode=0o555)
    root = os.geteuid() == 0
    before = {path: path.stat().st_mode for path in work.parents}
    if root:
        work.chmod(0o777)
        for path in work.glob("*.*"):
            path.chmod(0o644)
        for path, mode in before.items():
            path.chmod(mode | 0o011)
        os.seteuid(65534)
    try:
        said = run(work, "--set", setting.format("closed"), "--dry-run", code=1).stderr
    finally:
        if root:
            os.seteuid(0)
            for path, mode in before.items():
                path.chmod(mode)
    assert "closed, where nothing may be written" in said
