"""From images to a corrected model: train-oltr, then all of AlphaNet, closed and open."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from alphafix.commands.app import app
from alphafix.features.store import FeatureStore
from alphafix.files import read_json, read_tensors
from alphafix.values.correction import Correction
from alphafix.values.head import Head
from tests.oltr.drawings import NAMES, write_folders, write_recipe

pytestmark = pytest.mark.slow

FEW = [4, 5]


def command(*line: object) -> str:
    """Run a command that must succeed; return its stdout."""
    result = CliRunner().invoke(app, [str(word) for word in line])
    assert result.exit_code == 0, result.stderr
    assert "Traceback" not in result.stderr
    return result.stdout


@pytest.fixture(scope="module", params=["oltr", "ride", "crt"])
def chain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every command in order; one folder for the model and one for the run."""
    work = tmp_path_factory.mktemp(request.param)
    data = write_folders(work / "data")
    recipe = write_recipe(work / "recipe.yaml")
    model, run = work / "model", work / "run"
    images = ("--data", data, "--workers", 0, "--device", "cpu")
    in_run = ("--run", run)
    trained = command(
        *("train-oltr", *images, "--recipe", recipe, "--method", request.param),
        *("--epochs", 1, "--output", model),
    )
    assert trained == f"{model}\n"
    splits = ("--split", "train,val,test,open")
    command("extract", "--backbone", f"oltr:{model}", *images, *splits, *in_run)
    command("neighbors", "-k", 3, *in_run)
    command("train", "--rho", 1, "--seeds", 2, "--allow-worse", *in_run)
    command("patch", model / "model.safetensors", *in_run)
    report = command("evaluate", "--open", "open", "--json", *in_run)
    (work / "evaluated.json").write_text(report)
    patched = ("--weights", model / "model.alphafix.safetensors")
    again = ("--run", work / "again")
    command("extract", "--backbone", f"oltr:{model}", *patched, *images, *splits, *again)
    return work


def test_chain__the_head_is_the_one_that_was_trained(chain: Path) -> None:
    stored = read_tensors(chain / "model/model.safetensors")[0]
    head = Head.load(chain / "run/head.safetensors")
    np.testing.assert_array_equal(head.weight, stored["head.weight"])
    assert head.source is not None
    assert head.source.kind == "linear"
    assert head.source.weights == ("head.weight",)


def test_chain__extraction_gives_the_accuracy_that_training_told(chain: Path) -> None:
    head = Head.load(chain / "run/head.safetensors")
    told = read_json(chain / "model/evaluation.json")
    for split in ("val", "test"):
        store = FeatureStore.open(chain / "run/features" / split)
        right = head.logits(store.array()).argmax(1) == store.labels
        assert 100 * right.mean() == pytest.approx(told["closed"][split]["overall"])


def test_chain__only_the_few_split_rows_are_patched(chain: Path) -> None:
    before, after = (
        read_tensors(chain / "model" / name)[0]
        for name in ("model.safetensors", "model.alphafix.safetensors")
    )
    assert list(before) == list(after)
    for name, tensor in before.items():
        if name.startswith("head."):
            changed = (tensor != after[name]).reshape(len(NAMES), -1).any(1)
            assert np.flatnonzero(changed).tolist() == FEW
        else:
            np.testing.assert_array_equal(after[name], tensor)


def test_chain__the_patched_file_gives_the_corrected_logits(chain: Path) -> None:
    corrected = Correction.load(chain / "run/alphanet.safetensors").apply(
        Head.load(chain / "run/head.safetensors")
    )
    patched = Head.load(chain / "again/head.safetensors")
    for split in ("test", "open"):
        before, after = (
            FeatureStore.open(chain / run / "features" / split) for run in ("run", "again")
        )
        np.testing.assert_array_equal(before.array(), after.array())  # the body is untouched
        np.testing.assert_allclose(
            patched.logits(after.array()), corrected.logits(before.array()), rtol=1e-5, atol=1e-5
        )


def test_chain__is_evaluated_closed_and_open_before_and_after(chain: Path) -> None:
    report = json.loads((chain / "evaluated.json").read_text())
    for part in ("base", "corrected"):
        assert 0 <= report["splits"]["few"]["top1"][part]["value"] <= 100
        for figure in ("f_measure", "auroc"):
            assert 0 <= report["open_set"][figure][part]["value"] <= 100
    told = read_json(chain / "model/evaluation.json")["recognition"][0]
    assert report["open_set"]["f_measure"]["base"]["value"] == pytest.approx(told["f_measure"])
    assert report["open_set"]["unknown_samples"] == 12
