"""`alphafix evaluate --model`: the patched checkpoint itself, on images."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from alphafix.commands.app import app
from alphafix.commands.evaluate.options import EvaluateOptions
from alphafix.commands.evaluate.work import measure
from alphafix.commands.extract.options import ExtractOptions
from alphafix.commands.patch.options import PatchOptions
from alphafix.errors import AlphafixError, InputError
from alphafix.features.store import FeatureStore
from alphafix.run.directory import (
    CLASSES,
    CORRECTION,
    HEAD,
    MODEL_REPORT,
    REPORT,
    Provenance,
    Run,
)
from alphafix.values.classes import ClassTable
from alphafix.values.correction import Correction
from alphafix.values.head import Head
from tests.extract.models import small_net
from tests.stages import extract, patch

COUNTS = {"train": (6, 30, 30), "test": (9, 8, 7)}


def write_images(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for split, counts in COUNTS.items():
        for label, count in enumerate(counts):
            place = folder / split / f"class_{label}"
            place.mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 256, size=(16, 16, 3))
                pixels[:, :, label] = (pixels[:, :, label] + 255) // 2
                Image.fromarray(pixels.astype(np.uint8)).save(place / f"{index}.png")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, a model file, a run with a correction, and the patched model file."""
    folder = tmp_path_factory.mktemp("model")
    write_images(folder / "data")
    torch.manual_seed(1)
    save_file(small_net().state_dict(), folder / "model.safetensors")
    run = Run(folder / "run")
    extract(
        ExtractOptions(
            run=run.folder,
            backbone="python:tests.extract.models:small_net",
            weights=folder / "model.safetensors",
            data=str(folder / "data"),
            workers=0,
        )
    )
    classes, head = ClassTable.load(run.path(CLASSES)), Head.load(run.path(HEAD))
    few = classes.few
    assert few.tolist() == [0]
    inputs = run.hashes(CLASSES, HEAD, run.manifest("train"))
    # The row of class 1, tilted so that about half of the samples become class 0.
    features = FeatureStore.open(run.features("test")).array()
    center = features.mean(axis=0)
    tilt = np.linalg.svd(features - center, full_matrices=False)[2][:1].astype(np.float32) * 50
    Correction(
        few,
        head.weight[1:2] + tilt,
        head.bias_or_zeros[1:2] - tilt @ center,
        provenance=Provenance("train", {}, inputs).to_dict(),
    ).save(run.path(CORRECTION))
    patch(PatchOptions(run=run.folder, file=folder / "model.safetensors"))
    return folder


def options_for(work: Path, **changes: object) -> EvaluateOptions:
    given = {"run": work / "run", "bootstraps": 100, "model": work / "model.alphafix.safetensors"}
    return EvaluateOptions(**{**given, "trust_run": True, **changes})  # type: ignore[arg-type]


def test_model__code_that_a_run_directory_names_is_not_run_without_a_word(work: Path) -> None:
    with pytest.raises(InputError, match="names code to run") as raised:
        measure(options_for(work, trust_run=False))
    assert "trust_run=True" in str(raised.value)
    spec = "python:tests.extract.models:small_net"
    said = measure(options_for(work, trust_run=False, backbone=spec))
    trusted = measure(options_for(work))
    assert (said.both.after.predicted == trusted.both.after.predicted).all()


def test_model__predicts_as_the_model_itself_does(work: Path) -> None:
    net = small_net()
    net.load_state_dict(load_file(work / "model.alphafix.safetensors"))
    files = sorted((work / "data" / "test").rglob("*.png"))
    images = torch.stack([net.transform(Image.open(path)) for path in files])  # type: ignore[operator]
    with torch.no_grad():
        expected = net.eval()(images).argmax(dim=1).numpy()
    found = measure(options_for(work))
    order = np.argsort(found.store.ids)
    assert (found.both.after.predicted[order] == expected).all()
    assert (found.both.before.predicted != found.both.after.predicted).any()


def test_model__agrees_with_the_correction_on_stored_features(
    work: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "alphafix"):
        whole = measure(options_for(work)).evaluation
    assert "otherwise than" not in caplog.text
    stored = measure(options_for(work, model=None)).evaluation
    for ours, theirs in zip(whole.tiers, stored.tiers, strict=True):
        assert ours.figures["top1"] == theirs.figures["top1"]


def test_model__says_when_it_is_another_file(work: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "alphafix"):
        found = measure(options_for(work, model=work / "model.safetensors"))
    assert (found.both.before.predicted == found.both.after.predicted).all()
    assert "samples otherwise than the run's correction" in caplog.text


def test_model__is_recorded_by_name_and_hash(work: Path) -> None:
    arguments = ["evaluate", "--run", str(work / "run"), "--bootstraps", "100"]
    model = work / "model.alphafix.safetensors"
    result = CliRunner().invoke(app, [*arguments, "--model", str(model), "--trust-run"])
    assert result.exit_code == 0
    assert result.stdout.startswith("model.alphafix.safetensors on test, 24 samples")
    recorded = Run(work / "run").provenance(MODEL_REPORT)["options"]
    assert recorded["model"] == "model.alphafix.safetensors"
    assert len(recorded["model_sha256"]) == 64


def test_model__after_the_stored_features_both_results_are_there(work: Path) -> None:
    run = Run(work / "run")
    for name in (REPORT, MODEL_REPORT):
        run.path(name).unlink(missing_ok=True)
    arguments = ["evaluate", "--run", str(run.folder), "--bootstraps", "100"]
    model = ["--model", str(work / "model.alphafix.safetensors"), "--trust-run"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.stderr
    before = run.path(REPORT).read_bytes()
    done = CliRunner().invoke(app, [*arguments, *model])
    assert done.exit_code == 0, done.stderr
    assert run.path(REPORT).read_bytes() == before
    assert run.provenance(MODEL_REPORT)["options"]["model"] == "model.alphafix.safetensors"
    for more in ([], model):
        again = CliRunner().invoke(app, [*arguments, *more])
        assert "is up to date" in again.stderr


def test_model__after_another_one_error_names_all_that_is_lacking(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(work / "run")
    run.path(MODEL_REPORT).unlink(missing_ok=True)
    arguments = ["evaluate", "--run", str(run.folder), "--bootstraps", "100"]
    other = ["--model", str(work / "model.safetensors"), "--trust-run"]
    assert CliRunner().invoke(app, [*arguments, *other]).exit_code == 0
    model = ["--model", str(work / "model.alphafix.safetensors")]
    refused = CliRunner().invoke(app, [*arguments, *model])
    assert refused.exit_code == 1
    for flag in ("--overwrite", "--trust-run", "--backbone python:tests.extract.models:small_net"):
        assert flag in refused.stderr
    done = CliRunner().invoke(app, [*arguments, *model, "--overwrite", "--trust-run"])
    assert done.exit_code == 0, done.stderr
    monkeypatch.chdir(work)  # the same, wherever it is named from
    again = ["evaluate", "--run", "run", "--bootstraps", "100"]
    again += ["--model", "model.alphafix.safetensors", "--trust-run"]
    assert "is up to date" in CliRunner().invoke(app, again).stderr


def test_model__other_images_are_refused(work: Path, tmp_path: Path) -> None:
    shutil.copytree(work / "data", tmp_path / "data")
    (tmp_path / "data" / "test" / "class_0" / "0.png").unlink()
    with pytest.raises(InputError, match="not those that the stored features were made from"):
        measure(options_for(work, data=str(tmp_path / "data")))


def test_model__images_elsewhere_are_fine(work: Path, tmp_path: Path) -> None:
    shutil.copytree(work / "data", tmp_path / "data")
    measure(options_for(work, data=str(tmp_path / "data")))


def test_model__damaged_checkpoint(work: Path, tmp_path: Path) -> None:
    whole = (work / "model.alphafix.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-10])
    with pytest.raises(AlphafixError, match=r"cut\.safetensors"):
        measure(options_for(work, model=tmp_path / "cut.safetensors"))


def test_options__images_go_with_a_model() -> None:
    for arguments in (["--data", "x"], ["--model", "m.safetensors", "--open", "open"]):
        result = CliRunner().invoke(app, ["evaluate", *arguments])
        assert result.exit_code == 2
        assert "--model" in result.stderr
