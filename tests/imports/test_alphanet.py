"""`alphafix import alphanet-official`: the authors' folder, and on with neighbors and train."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from alphafix.commands.app import app
from alphafix.features.store import FeatureStore
from alphafix.values.classes import ClassTable, Thresholds
from alphafix.values.head import Head
from tests.common import Problem, make_problem
from tests.imports.projects import dump_features, write_alphanet_folder

runner = CliRunner()


@pytest.fixture
def problem() -> Problem:
    return make_problem(num_classes=16)


def take(folder: Path, *arguments: str, code: int = 0) -> Result:
    run = str(folder.parent / "run")
    result = runner.invoke(
        app, ["import", "alphanet-official", str(folder), "--run", run, *arguments]
    )
    assert result.exit_code == code, result.stderr
    return result


@pytest.mark.parametrize("parts", [1, 3])
def test_import__makes_a_run_that_the_next_stages_go_on_with(
    tmp_path: Path, problem: Problem, parts: int
) -> None:
    folder, run = tmp_path / "data", tmp_path / "run"
    write_alphanet_folder(folder, problem, parts=parts)
    result = take(folder, "--allow-pickle", "--json")
    found = json.loads(result.stdout)
    assert found["run"] == str(run)
    assert ClassTable.load(run / "classes.json").counts.tolist() == problem.classes.counts.tolist()
    for split, features in problem.features.items():
        store = FeatureStore.open(run / "features" / split)
        np.testing.assert_array_equal(store.array(), features)
        right = problem.head.logits(features).argmax(1) == problem.labels[split]
        assert found["accuracy"][split] == pytest.approx(100 * right.mean())
    for line in (["neighbors"], ["train", "--seeds", "2", "--epochs", "6"], ["evaluate"]):
        done = runner.invoke(app, [*line, "--run", str(run)])
        assert done.exit_code == 0, done.stderr
    patched = folder / "classifiers" / "crt.alphafix.pth"
    done = runner.invoke(app, ["patch", str(folder / "classifiers/crt.pth"), "--run", str(run)])
    assert done.exit_code == 0, done.stderr
    after = torch.load(patched, weights_only=True)["weight"].numpy()
    changed = (after != problem.head.weight).any(1)
    assert np.flatnonzero(changed).tolist() == problem.classes.few.tolist()


def test_import__needs_the_users_word_for_pickles(tmp_path: Path, problem: Problem) -> None:
    write_alphanet_folder(tmp_path / "data", problem)
    result = take(tmp_path / "data", code=1)
    assert "--allow-pickle" in result.stderr
    assert result.stdout == ""
    assert not (tmp_path / "run").exists()


def test_import__again_is_up_to_date_and_other_files_are_refused(
    tmp_path: Path, problem: Problem
) -> None:
    folder = tmp_path / "data"
    write_alphanet_folder(folder, problem)
    take(folder, "--allow-pickle")
    before = (tmp_path / "run/head.safetensors").stat().st_mtime_ns
    assert "already" in take(folder, "--allow-pickle").stderr
    assert (tmp_path / "run/head.safetensors").stat().st_mtime_ns == before
    dump_features(folder / "features/crt/val.pkl", problem.features["val"][:5], [0] * 5)
    assert "--overwrite" in take(folder, "--allow-pickle", code=1).stderr
    take(folder, "--allow-pickle", "--overwrite")
    assert len(FeatureStore.open(tmp_path / "run/features/val")) == 5


def test_import__takes_thresholds_from_the_split_files(tmp_path: Path, problem: Problem) -> None:
    folder = tmp_path / "data"
    write_alphanet_folder(folder, problem)
    counts = problem.classes.counts
    other = ClassTable(problem.classes.names, counts, Thresholds(few=50, many=120))
    for split in ("few", "medium", "many"):
        text = "".join(f"{number}\n" for number in other.tier(split))
        (folder / "splits" / f"{split}.txt").write_text(text)
    take(folder, "--allow-pickle")
    table = ClassTable.load(tmp_path / "run/classes.json")
    assert table.tiers.tolist() == other.tiers.tolist()


def test_import__refuses_split_files_of_other_features(tmp_path: Path, problem: Problem) -> None:
    folder = tmp_path / "data"
    write_alphanet_folder(folder, problem)
    few, many = folder / "splits/few.txt", folder / "splits/many.txt"
    few_text = few.read_text()
    few.write_text(many.read_text())
    many.write_text(few_text)
    assert "split files do not follow" in take(folder, "--allow-pickle", code=1).stderr
    assert not (tmp_path / "run").exists()


def test_import__joins_the_heads_of_experts(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "data"
    heads = [rng.normal(size=(6, 4)).astype(np.float32) for _ in range(3)]
    biases = [rng.normal(size=6).astype(np.float32) for _ in range(3)]
    place = folder / "classifiers"
    place.mkdir(parents=True)
    for number, (weight, bias) in enumerate(zip(heads, biases, strict=True)):
        values = {"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)}
        torch.save(values, place / f"expert{number}.pth")
    names = [
        {"classifier_loader": "LinearClassifierLoader", "classifier_file": f"expert{n}.pth"}
        for n in range(3)
    ]
    torch.save(names, place / "ride.pth")
    features = rng.normal(size=(40, 12)).astype(np.float32)
    labels = np.repeat(np.arange(6), [30, 2, 2, 2, 2, 2])
    dump_features(folder / "features/ride/train.pkl", features, labels)
    take(folder, "--allow-pickle")
    head = Head.load(tmp_path / "run/head.safetensors")
    each = [features[:, 4 * e : 4 * e + 4] @ heads[e].T + biases[e] for e in range(3)]
    np.testing.assert_allclose(head.logits(features), np.mean(each, axis=0), rtol=1e-4, atol=1e-5)


def test_import__scales_the_logits_of_ltr(tmp_path: Path, problem: Problem) -> None:
    write_alphanet_folder(tmp_path / "data", problem)
    take(tmp_path / "data", "--allow-pickle", "--scale", "100")
    assert Head.load(tmp_path / "run/head.safetensors").scale == 100


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        ("head", "classifiers/NAME.pth"),
        ("train", "no train"),
        ("labels", "do not follow from the training counts"),
        ("ids", "class ids"),
        ("width", "differ in width"),
        ("code", "refused"),
    ],
)
def test_import__of_a_folder_that_lacks_or_mixes_something(
    tmp_path: Path, problem: Problem, harm: str, message: str
) -> None:
    folder = tmp_path / "data"
    write_alphanet_folder(folder, problem)
    train = folder / "features/crt/train.pkl"
    if harm == "head":
        (folder / "classifiers/crt.pth").unlink()
    elif harm == "train":
        train.unlink()
    elif harm == "labels":
        dump_features(train, problem.features["train"], problem.labels["train"] - 1)
    elif harm == "ids":
        (folder / "splits/few.txt").write_text("12\n99\n")
    elif harm == "width":
        dump_features(train, problem.features["train"][:, :5], problem.labels["train"])
    else:
        train.write_bytes(b"cposix\nsystem\n(S'touch mark'\ntR.")
    result = take(folder, "--allow-pickle", code=1)
    assert message in result.stderr
    assert not (tmp_path / "run").exists()


def test_import__asks_which_of_several_models(tmp_path: Path, problem: Problem) -> None:
    folder = tmp_path / "data"
    write_alphanet_folder(folder, problem)
    (folder / "features/lws").mkdir()
    torch.save({}, folder / "classifiers/lws.pth")
    assert "--name" in take(folder, "--allow-pickle", code=1).stderr
    take(folder, "--allow-pickle", "--name", "crt")
