"""`alphafix fix`: the whole chain in one line of a shell."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from alphafix.features.store import FeatureStore
from alphafix.files import sha256_file
from alphafix.metrics.evaluation import Evaluation
from alphafix.metrics.gates import class_drops
from alphafix.run.directory import CLASSES, HEAD
from alphafix.values.neighbors import Neighbours
from tests.test_chain import shell, work

pytestmark = pytest.mark.slow

__all__ = ["work"]  # the fixture

FIX = (
    "alphafix fix model.safetensors --backbone timm:test_resnet --data data --run fixed "
    "--set extract.few_below=10 --set extract.many_above=30 --set extract.workers=0 "
    "--set neighbors.k=3 --set train.method=few-bias"
)


@pytest.fixture(scope="module")
def fixed(work: Path) -> str:
    before = sha256_file(work / "model.safetensors")
    done = shell(FIX, work)
    assert sha256_file(work / "model.safetensors") == before
    assert done.stdout == "model.alphafix.safetensors\n"
    return done.stderr


def begun(run: Path, other: Path) -> None:
    """Give another run the features of the same options, which `fix` finds up to date."""
    shutil.copytree(run / "features", other / "features")
    for name in (CLASSES, HEAD):
        shutil.copy2(run / name, other)


def test_fix__patches_what_it_measured(work: Path, fixed: str) -> None:
    store = FeatureStore.open(work / "fixed/features/test")
    patched = load_file(work / "model.alphafix.safetensors")
    accuracy = {}
    for name, state in (("base", load_file(work / "model.safetensors")), ("corrected", patched)):
        logits = store.array() @ state["fc.weight"].T + state["fc.bias"]
        accuracy[name] = 100 * float(np.mean(logits.argmax(axis=1) == store.labels))
    top1 = Evaluation.load(work / "fixed/report.json").tier("overall").figures["top1"]
    assert top1.base is not None
    assert top1.corrected is not None
    measured = {"base": top1.base.value, "corrected": top1.corrected.value}
    assert measured == pytest.approx(accuracy)
    assert accuracy["base"] - accuracy["corrected"] <= 1
    assert "test: 72 images, 6 of each of 12 classes" in fixed
    evaluation = Evaluation.load(work / "fixed/report.json")
    assert f"\n{class_drops(evaluation, 10)} (the limit" in fixed
    row = [line for line in fixed.splitlines() if line.startswith("overall")][-1]
    assert f"{accuracy['base']:.1f}  " in row
    assert f"{accuracy['corrected']:.1f}  " in row
    assert (work / "fixed/report/index.html").is_file()


@pytest.mark.parametrize(
    ("setting", "only_rare"),
    [("train.method=lda", False), ("train.methods=few-bias,lda-few,alphanet", True)],
)
def test_fix__says_which_rows_change(
    setting: str, only_rare: bool, work: Path, fixed: str, tmp_path: Path
) -> None:
    output = tmp_path / "out.safetensors"
    begun(work / "fixed", tmp_path / "run")
    command = FIX.replace("--run fixed", f"--run {tmp_path / 'run'} -o {output}")
    command = command.replace("train.method=few-bias", setting) + " --max-overall-drop 50"
    told = shell(command, work).stderr
    before, after = load_file(work / "model.safetensors"), load_file(output)
    assert {name for name in before if (before[name] != after[name]).any()} <= {
        "fc.weight",
        "fc.bias",
    }
    rows = (before["fc.weight"] != after["fc.weight"]).any(axis=1)
    changed = np.flatnonzero(rows | (before["fc.bias"] != after["fc.bias"]))
    rare = Evaluation.load(tmp_path / "run/report.json").classes.few
    assert set(changed) == set(rare if only_rare else range(len(rows)))
    words = f"{len(changed)} of {len(rows)} rows of the last layer change"
    assert words in " ".join(told.split())
    assert ("those of the rare classes\n" in told) == only_rare


def test_fix__again_is_up_to_date(work: Path, fixed: str) -> None:
    again = shell(FIX, work)
    assert again.stdout == "model.alphafix.safetensors\n"
    assert again.stderr.count("up to date") >= 6


def test_fix__again_without_test_images_is_up_to_date(work: Path, fixed: str) -> None:
    shutil.copytree(work / "data", work / "untested", ignore=shutil.ignore_patterns("test"))
    line = FIX.replace("--data data --run fixed", "--data untested --run untested-run")
    line += " -o untested.safetensors --max-overall-drop 50"
    assert "there are no test images" in shell(line, work).stderr
    again = shell(line, work)
    assert again.stdout == "untested.safetensors\n"
    assert again.stderr.count("up to date") >= 6


def test_fix__of_few_other_classes_takes_as_many_neighbours_as_there_are(work: Path) -> None:
    line = FIX.replace("--set neighbors.k=3 ", "").replace("few_below=10", "few_below=25")
    line = line.replace("--run fixed", "--run fewer -o fewer.safetensors --max-overall-drop 100")
    line += " --set train.allow_worse=true"
    done = shell(line, work)
    assert done.stdout == "fewer.safetensors\n"
    assert "4 classes are not rare: each rare one has 3 of them as neighbours" in done.stderr
    assert Neighbours.load(work / "fewer/neighbors.safetensors").k == 3
    assert shell(line, work).stderr.count("up to date") >= 6
    # What is asked for is not changed.
    for name in ("two", "five"):
        begun(work / "fewer", work / name)
    shell(f"{line.replace('fewer', 'two')} --set neighbors.k=2", work)
    assert Neighbours.load(work / "two/neighbors.safetensors").k == 2
    asked = shell(f"{line.replace('fewer', 'five')} --set neighbors.k=5", work, code=1)
    assert "k = 5 of 4 other classes" in asked.stderr
    assert not (work / "five.safetensors").exists()


def test_fix__what_breaks_a_limit_is_not_written(work: Path, fixed: str) -> None:
    line = f"{FIX} -o other.safetensors --set evaluate.min_few_gain=100"
    done = shell(line, work, code=3)
    assert "a gate is not met" in done.stderr
    assert not (work / "other.safetensors").exists()


def test_fix__what_is_where_it_writes_is_told_before_any_work(work: Path) -> None:
    (work / "taken.safetensors").write_text("mine")
    line = FIX.replace("--run fixed", "--run taken -o taken.safetensors")
    done = shell(line, work, code=1)
    assert "error: taken.safetensors exists already" in done.stderr
    assert "give --overwrite to replace it" in done.stderr
    assert (work / "taken.safetensors").read_text() == "mine"
    assert not (work / "taken").exists()
    none = shell(line.replace("-o taken", "-o taken.safetensors/new"), work, code=1)
    assert "taken.safetensors, which is no folder" in none.stderr


def test_fix__notes_name_options_as_they_can_be_typed(work: Path) -> None:
    shutil.copytree(work / "data", work / "renamed")
    (work / "renamed" / "val").rename(work / "renamed" / "extra")
    line = FIX.replace("--data data --run fixed", "--data renamed --run renamed-run")
    done = shell(f"{line} -o renamed.safetensors", work, code=1)
    hint = "--set extract.split_name=val=extra"
    assert f"48 images: not used; if it is the split val: {hint}\n" in done.stderr
    alone = re.sub("`[^`]*`", "", done.stderr)  # without whole commands of other names
    assert not re.search(r"(?<!\S)--(split|val-fraction|holdout)", alone)
    shell(f"{line} -o renamed.safetensors {hint} --overwrite", work)


def test_fix__nothing_is_written_where_the_base_model_is_kept(work: Path, fixed: str) -> None:
    begun(work / "fixed", work / "kept")
    # No correction can be sure of this on so few validation images.
    line = FIX.replace("--run fixed", "--run kept") + " -o kept.safetensors --max-overall-drop 0 "
    line += "--set train.confidence=0.9999"
    for _ in range(2):
        done = shell(line, work, code=3)
        assert done.stdout == ""
        assert "no correction is good enough: nothing is patched" in done.stderr
        assert "allow more with --max-overall-drop" in done.stderr
        assert not (work / "kept.safetensors").exists()
    done = shell("alphafix patch model.safetensors --run kept -o kept.safetensors", work)
    assert "nothing is corrected, the base model is kept: " in done.stderr
    base, kept = (load_file(work / name) for name in ("model.safetensors", "kept.safetensors"))
    assert all((base[name] == kept[name]).all() for name in base)


def test_patch__the_command_that_it_names_restores_the_file(work: Path, fixed: str) -> None:
    before = (work / "model.safetensors").read_bytes()
    file = work / "my own.safetensors"
    file.write_bytes(before)
    done = shell("alphafix patch 'my own.safetensors' --run fixed --in-place", work)
    assert file.read_bytes() != before
    shell(done.stderr.rsplit("`", 2)[1], work)
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.rho", "is not understood"),
        ("tarin.rho=1", "did you mean train"),
        ("extract.meen=0.5", "did you mean mean"),
    ],
)
def test_fix__a_wrong_setting_is_an_error(work: Path, setting: str, message: str) -> None:
    done = shell(f"{FIX} --set {setting}", work, code=1)
    assert message in done.stderr
    assert done.stdout == ""
