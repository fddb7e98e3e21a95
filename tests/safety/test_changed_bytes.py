"""A changed byte in what a run holds is an error of the command that reads it."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

import alphafix.features.verification as verification
from alphafix.commands.app import app
from alphafix.errors import FileFormatError
from alphafix.features.store import FeatureStore
from alphafix.files import sha256_file
from tests.common import make_problem, write_run


def flip(path: Path, place: int = -3) -> None:
    """Change one bit."""
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    problem = make_problem()
    write_run(folder / "run", problem)
    tensors = {"fc.weight": problem.head.weight, "fc.bias": problem.head.bias_or_zeros}
    save_file(tensors, folder / "model.safetensors")
    invoke(folder / "run", "neighbors", "-k", "3")
    invoke(folder / "run", "train", "--seeds", "1", "--epochs", "5")
    return folder


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    return tmp_path / "run"


def invoke(run: Path, *words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, [*words, "--run", str(run)])
    assert done.exit_code == code, done.stderr
    return done.stderr


# As little as a comparison can be.
COMPARE = ["compare", "--methods", "tau-norm", "--rho", "1", "--seeds", "1", "-k", "2"]
COMPARE += ["--no-on-top", "--bootstraps", "100"]


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ("train", ["train", "--overwrite", "--seeds", "1", "--epochs", "5"]),
        ("val", ["train", "--overwrite", "--seeds", "1", "--epochs", "5"]),
        pytest.param("val", COMPARE, marks=pytest.mark.slow),
        ("test", ["evaluate", "--bootstraps", "100"]),
        pytest.param("test", ["report", "--bootstraps", "100"], marks=pytest.mark.slow),
        ("test", ["features", "export", "--split", "test", "out.npz"]),
    ],
)
def test_features__with_a_changed_bit_are_refused(
    split: str, words: list[str], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.parent)
    shard = run / "features" / split / "00000.safetensors"
    before = FeatureStore.open(shard.parent).array()
    flip(shard, shard.read_bytes().index(before[:1].tobytes()))
    told = invoke(run, *words, code=1)
    assert told.count("error: ") == 1
    assert f"{shard} has changed since it was written" in told
    assert not Path("out.npz").exists()
    invoke(run, *words, "--no-verify")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("head.safetensors", ["evaluate"]),
        ("head.safetensors", ["patch", "model.safetensors"]),
        ("neighbors.safetensors", ["compare", "--methods", "tau-norm"]),
        ("alphanet.safetensors", ["evaluate"]),
        ("alphanet.safetensors", ["report"]),
        ("alphanet.safetensors", ["patch", "model.safetensors"]),
        ("classes.json", ["evaluate"]),
        ("features/train/statistics.safetensors", ["neighbors", "--overwrite", "-k", "2"]),
        ("features/test/manifest.json", ["evaluate"]),
    ],
)
def test_result__with_a_changed_bit_is_refused(
    name: str, words: list[str], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.parent)
    path = run / name
    flip(path, -9 if path.suffix == ".safetensors" else path.read_text().index("0"))
    assert invoke(run, *words, code=1).count("error: ") == 1


def test_features__are_hashed_once_and_again_when_they_change(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run / "features/test"
    hashed: list[Path] = []

    def count(path: Path) -> str:
        hashed.append(path)
        return sha256_file(path)

    monkeypatch.setattr(verification, "sha256_file", count)
    for _ in range(2):  # so few bytes are read faster than a note of it is written
        _ = FeatureStore.open(folder).labels
    assert len(hashed) == 2
    monkeypatch.setattr(verification, "_WORTH_A_NOTE", 0)
    hashed.clear()
    # Written a moment ago: the clock could not tell a change from it, so that it is read again.
    for _ in range(2):
        _ = FeatureStore.open(folder).labels
    assert len(hashed) == 2
    monkeypatch.setattr(verification, "_TICK", 0)
    time.sleep(0.02)
    for _ in range(3):
        store = FeatureStore.open(folder)
        _ = (store.labels, store.ids, store.array())
    assert len(hashed) == 3
    shard = folder / store.shards[0].file
    earlier = shard.stat()
    flip(shard)
    os.utime(shard, ns=(earlier.st_atime_ns, earlier.st_mtime_ns))  # as some tools copy files
    with pytest.raises(FileFormatError, match="has changed"):
        _ = FeatureStore.open(folder).labels
    flip(shard)
    _ = FeatureStore.open(folder, verify=False).labels
    assert len(hashed) == 4
    store.verify()
    assert len(hashed) == 5


def test_features__in_a_folder_that_cannot_be_written_are_verified(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run / "features/test"

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(verification, "write_json", full)
    monkeypatch.setattr(verification, "_WORTH_A_NOTE", 0)
    monkeypatch.setattr(verification, "_TICK", 0)
    assert len(FeatureStore.open(folder).labels)
    assert not (folder / verification.MEMORY).exists()
