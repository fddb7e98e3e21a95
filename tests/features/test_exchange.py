"""Features to and from the files of other tools."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from alphafix.commands.app import app
from alphafix.errors import AlphafixError, FileFormatError, InputError
from alphafix.features.exchange import read_features
from alphafix.features.store import FeatureStore
from alphafix.foreign.arrays import read_head
from alphafix.values.classes import ClassTable
from tests.common import make_problem, write_run


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".parquet"])
def test_features__export_and_import_again(suffix: str, tmp_path: Path) -> None:
    problem = make_problem()
    run = write_run(tmp_path / "run", problem)
    file = tmp_path / f"some features{suffix}"
    common = ["--run", str(run.folder), "--split", "val", str(file)]
    done = CliRunner().invoke(app, ["features", "export", *common])
    assert (done.exit_code, done.stdout) == (0, f"{file}\n")

    other = write_run(tmp_path / "other", problem, splits=("train",))
    common[1] = str(other.folder)
    done = CliRunner().invoke(app, ["features", "import", *common])
    assert (done.exit_code, done.stdout) == (0, f"{other.features('val')}\n")
    again = CliRunner().invoke(app, ["features", "import", *common])
    assert "up to date" in again.stderr

    a, b = FeatureStore.open(run.features("val")), FeatureStore.open(other.features("val"))
    b.verify()
    assert (a.array() == b.array()).all()
    assert a.ids == b.ids
    assert a.labels.tolist() == b.labels.tolist()
    assert (a.class_means() == b.class_means()).all()


def test_import__training_features_set_the_class_counts(tmp_path: Path) -> None:
    problem = make_problem()
    run = write_run(tmp_path / "run", problem)
    labels = np.arange(24) % 12
    file = tmp_path / "f.npz"
    np.savez(file, train_features=np.ones((24, 8), np.float16), train_labels=labels)
    command = ["features", "import", "--run", str(run.folder), str(file)]
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code == 1
    assert "--overwrite" in refused.stderr
    assert len(FeatureStore.open(run.features("train"))) == len(problem.labels["train"])
    assert CliRunner().invoke(app, [*command, "--overwrite"]).exit_code == 0
    assert ClassTable.load(run.path("classes.json")).counts.tolist() == [2] * 12
    assert FeatureStore.open(run.features("train")).ids[:2] == ("0", "1")


def test_import__features_that_do_not_fit_the_head(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", make_problem())
    file = tmp_path / "f.npz"
    np.savez(file, features=np.ones((3, 5), np.float32), labels=np.zeros(3, np.int64))
    done = CliRunner().invoke(
        app, ["features", "import", "--run", str(run.folder), "--split", "open", str(file)]
    )
    assert (done.exit_code, done.stdout) == (1, "")
    assert "differ in width" in done.stderr
    assert not run.features("open").exists()


def test_read__safetensors_with_and_without_ids(tmp_path: Path) -> None:
    arrays = {"features": np.ones((2, 3), np.float16), "labels": np.array([1, 0])}
    save_file(arrays, tmp_path / "a.safetensors")
    found = read_features(tmp_path / "a.safetensors", split="val")
    assert (str(found.features.dtype), found.features.shape) == ("float32", (2, 3))
    assert found.labels.tolist() == [1, 0]
    assert found.ids == ("0", "1")
    run = write_run(tmp_path / "run", make_problem(), splits=("val",))
    shard = run.features("val") / "00000.safetensors"
    assert read_features(shard, split="val").ids[0] == "val/0"


def _good() -> dict[str, Any]:
    return {"features": np.ones((2, 3), np.float32), "labels": np.array([1, 0])}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": None}, "holds no labels of the split val"),
        ({"features": None}, "holds no features of the split val"),
        ({"labels": np.array([0.5, 1.0])}, "no class ids"),
        ({"labels": np.array([0])}, "do not fit together"),
        ({"features": np.ones(2, np.float32)}, "do not fit together"),
        ({"features": np.ones((2, 3), np.int64)}, "no floating-point"),
        ({"ids": np.array(["a"])}, "ids and labels"),
        ({"labels": np.array(["cat", "dog"])}, r"(?s)no class ids.*place in the list of classes"),
    ],
)
def test_read__wrong_arrays(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    arrays = {k: v for k, v in {**_good(), **changes}.items() if v is not None}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(AlphafixError, match=message):
        read_features(tmp_path / "a.npz", split="val")


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".parquet", ".safetensors"])
def test_read__damaged_file(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"a{suffix}"
    file.write_bytes(b"PK\x03\x04 not what it says")
    np.save(tmp_path / "a_labels.npy", np.zeros(2, np.int64))
    with pytest.raises(FileFormatError):
        read_features(file, split="val")


def test_read__missing_labels_unknown_suffix_missing_file(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((2, 3), np.float32))
    with pytest.raises(InputError, match="labels of"):
        read_features(tmp_path / "a.npy", split="val")
    with pytest.raises(InputError, match="not a file of features"):
        read_features(tmp_path / "a.mat", split="val")
    with pytest.raises(InputError, match="is not there"):
        read_features(tmp_path / "b.npz", split="val")
    np.save(tmp_path / "c.npy", np.array([{"pickled": 1}]), allow_pickle=True)
    np.save(tmp_path / "c_labels.npy", np.zeros(1, np.int64))
    with pytest.raises(FileFormatError, match="no pickled objects"):
        read_features(tmp_path / "c.npy", split="val")


def test_export__unknown_suffix_and_existing_file(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", make_problem(), splits=("val",))
    common = ["features", "export", "--run", str(run.folder), "--split", "val"]
    done = CliRunner().invoke(app, [*common, str(tmp_path / "a.mat")])
    assert done.exit_code == 1
    assert ".npz, .npy, .parquet" in done.stderr
    (tmp_path / "a_labels.npy").write_bytes(b"mine")
    done = CliRunner().invoke(app, [*common, str(tmp_path / "a.npy")])
    assert done.exit_code == 1
    assert "--overwrite" in done.stderr
    assert (tmp_path / "a_labels.npy").read_bytes() == b"mine"
    assert not (tmp_path / "a.npy").exists()


def test_export__what_a_kill_left_is_made_anew_and_what_was_changed_stays(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", make_problem())
    words = ["features", "export", "--run", str(run.folder), "--split", "val"]
    words.append(str(tmp_path / "val.npy"))
    assert CliRunner().invoke(app, words).exit_code == 0
    files = sorted(tmp_path.glob("val*.npy"))
    whole = [file.read_bytes() for file in files]
    assert len(files) == 4
    files[0].unlink()  # as a kill between two names leaves it
    assert CliRunner().invoke(app, words).exit_code == 0
    assert [file.read_bytes() for file in files] == whole
    files[0].unlink()
    files[1].write_bytes(b"somebody's own")
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"{files[1]} exists already" in done.stderr
    assert files[1].read_bytes() == b"somebody's own"


@pytest.mark.parametrize(
    ("name", "advice"),
    [("m.joblib", "head_of"), ("m.pkl", "head_of"), ("m.pth", "weights=.?m\\.pth")],
)
def test_read_head__model_file_is_told_its_own_way(name: str, advice: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a file of a head") as caught:
        read_head(tmp_path / name)
    assert re.search(advice, str(caught.value))
