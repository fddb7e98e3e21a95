"""From a model with a memory to the figures of the report, by commands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from alphafix.commands.app import app
from alphafix.commands.extract.preparation import keep_embedding
from alphafix.files import read_json, sha256_file
from alphafix.oltr.training.embedding import EMBEDDING, Embedding
from alphafix.run.directory import Run
from tests.oltr.drawings import NAMES, write_folders, write_recipe


def command(*line: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in line])
    assert result.exit_code == 0, result.stderr
    return result.stdout.strip()


def train(work: Path, *more: object) -> Path:
    images = ("--data", write_folders(work / "data"), "--workers", 0, "--device", "cpu")
    recipe = write_recipe(work / "recipe.yaml")
    options = ("--recipe", recipe, "--epochs", 1, "--output", work / "model")
    command("train-oltr", *images, *options, *more)
    return work / "model"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("memory")
    train(work)
    return work


def test_train__leaves_a_sample_of_the_model_that_it_wrote(work: Path) -> None:
    found = Embedding.load(work / "model" / EMBEDDING)
    assert (found.names, found.split) == (tuple(NAMES), "test")
    assert found.info["model"] == sha256_file(work / "model/model.safetensors")
    assert found.memory is not None
    assert found.memory.mean.shape == (len(NAMES),)


def test_train__a_method_without_a_memory_leaves_none(tmp_path: Path) -> None:
    model = train(tmp_path, "--method", "plain")
    assert (model / "evaluation.json").is_file()
    assert not (model / EMBEDDING).exists()


@pytest.mark.slow
def test_report__shows_the_memory_of_the_base_model(work: Path) -> None:
    in_run = ("--run", work / "run")
    images = ("--data", work / "data", "--workers", 0, "--device", "cpu")
    command("extract", "--backbone", f"oltr:{work / 'model'}", *images, *in_run)
    command("neighbors", "-k", 3, *in_run)
    command("train", "--rho", 1, "--seeds", 2, "--epochs", 2, *in_run)
    page = Path(command("report", "--bootstraps", 100, *in_run))
    text = page.read_text(encoding="utf-8")
    figures = {path.stem for path in (page.parent / "figures").iterdir()}
    assert {"embeddings", "memory", "memory-images"} <= figures
    assert "What rare classes borrow from others" in text
    names = [entry["name"] for entry in read_json(work / "run/classes.json")["classes"]]
    assert names == list(NAMES)
    # Features of a model that holds other rows: the sample is not of that model.
    sample = Embedding.load(work / "run" / EMBEDDING)
    replace(sample, info={"model": "other"}).save(work / "run" / EMBEDDING, overwrite=True)
    page = Path(command("report", "--bootstraps", 100, *in_run, "--output", work / "second"))
    assert not (page.parent / "figures" / "memory.svg").exists()


def test_extract__removes_the_sample_of_another_model(work: Path) -> None:
    run = Run(work / "other")
    keep_embedding(run, f"oltr:{work / 'model'}")
    assert Embedding.load(run.path(EMBEDDING)).split == "test"
    keep_embedding(run, "timm:resnet18")
    assert not run.has(EMBEDDING)
