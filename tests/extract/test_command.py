"""`alphafix extract` in a real shell, and on bad images."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from alphafix.commands.app import app
from alphafix.commands.extract.options import ExtractOptions
from alphafix.features.store import FeatureStore
from tests.extract.photos import make_photos, write_archives, write_folders
from tests.extract.test_resume import many_photos
from tests.extract.zoo import Animal
from tests.processes import contents
from tests.stages import extract

Arguments = Callable[..., list[str]]


@pytest.fixture
def arguments(tmp_path: Path, animal: Callable[[str], Animal]) -> Arguments:
    weights = animal("python").options["weights"]

    def make(*more: str, data: str | None = None, net: str = "small_net") -> list[str]:
        given = {
            "--run": tmp_path / "run",
            "--backbone": f"python:tests.extract.models:{net}",
            "--weights": weights,
            "--data": data or write_folders(tmp_path / "data", make_photos()),
            "--workers": 0,
        }
        return ["extract", *(str(part) for pair in given.items() for part in pair), *more]

    return make


def test_command__result_on_stdout_table_on_stderr(arguments: Arguments, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, arguments("--few-below", "5", "--many-above", "9"))
    assert done.exit_code == 0
    assert done.stdout == f"{tmp_path / 'run'}\n"
    assert "few" in done.stderr
    assert "few < 5, medium 5..9, many > 9" in done.stderr
    again = CliRunner().invoke(app, arguments("--json"))
    assert again.exit_code == 0
    assert "up to date" in again.stderr
    found = json.loads(again.stdout)
    assert found["samples"] == {"train": 12, "val": 6}
    assert found["class_sizes"]["few"] == {"classes": 3, "train": 12, "val": 6}


def test_command__error_is_one_message_with_exit_code_1(arguments: Arguments) -> None:
    done = CliRunner().invoke(app, arguments(data="nowhere"))
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("error: the data nowhere is not there\n")
    assert "Traceback" not in done.stderr


def test_command__usage_error_is_exit_code_2(arguments: Arguments) -> None:
    done = CliRunner().invoke(app, arguments("--precision", "int4"))
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--precision" in done.stderr


def damage(folder: Path) -> dict[str, str]:
    """Put one bad image of each kind into a class folder: reasons by name."""
    (folder / "a zero.png").write_bytes(b"")
    (folder / "b text.jpg").write_text("not an image")
    (folder / "c broken.png").symlink_to(folder / "gone.png")
    whole = next(folder.glob("0*.png")).read_bytes()
    (folder / "d ü 猫.png").write_bytes(whole[: len(whole) // 2])
    return {
        "bee/a zero.png": "empty",
        "bee/b text.jpg": "no image format",
        "bee/c broken.png": "broken link",
        "bee/d ü 猫.png": "truncated",
    }


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_images__error_names_the_file_skip_lists_them(
    workers: int, arguments: Arguments, tmp_path: Path
) -> None:
    data = write_folders(tmp_path / "data", make_photos())
    reasons = damage(tmp_path / "data" / "train" / "bee")
    options = ("--workers", str(workers), "--batch-size", "3")
    done = CliRunner().invoke(app, arguments(*options, data=data))
    assert (done.exit_code, done.stdout) == (1, "")
    assert "the image bee/a zero.png cannot be used" in done.stderr
    assert "--on-bad-image skip" in done.stderr
    assert not (tmp_path / "run" / "features" / "train" / "manifest.json").exists()

    done = CliRunner().invoke(
        app, arguments(*options, "--on-bad-image", "skip", "--overwrite", data=data)
    )
    assert done.exit_code == 0
    assert "4 images of train left out" in done.stderr
    store = FeatureStore.open(tmp_path / "run" / "features" / "train")
    assert len(store) == 12
    assert not set(store.ids) & set(reasons)
    assert store.info["skipped"] == 4
    lines = (store.folder / "skipped.txt").read_text().splitlines()
    listed = dict(line.split("\t") for line in lines)
    assert listed.keys() == reasons.keys()
    assert all(reasons[name] in listed[name] for name in reasons)


@pytest.mark.slow
def test_bad_images__a_split_of_nothing_else(arguments: Arguments, tmp_path: Path) -> None:
    data = write_folders(tmp_path / "data", make_photos())
    for file in (tmp_path / "data" / "val").glob("*/*.png"):
        file.write_bytes(b"x")
    done = CliRunner().invoke(app, arguments("--on-bad-image", "skip", data=data))
    assert done.exit_code == 1
    assert "features/val" in done.stderr
    assert not (tmp_path / "run" / "features" / "val" / "manifest.json").exists()


def _wait_for_shards(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(list((folder / "partial").glob("0*.json"))) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_command__killed_with_its_workers_and_continued(
    arguments: Arguments, tmp_path: Path
) -> None:
    data = write_folders(tmp_path / "data", many_photos())
    options = ("--batch-size", "2", "--shard-samples", "4", "--workers", "2")
    command = arguments(*options, data=data, net="slow_net")
    process = subprocess.Popen(
        [sys.executable, "-m", "alphafix", *command],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
    )
    _wait_for_shards(tmp_path / "run" / "features" / "train", 3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert CliRunner().invoke(app, command).exit_code == 0
    broken = contents(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "first")
    assert CliRunner().invoke(app, command).exit_code == 0
    assert contents(tmp_path / "run") == broken


@pytest.mark.slow
def test_torchrun__restarts_a_process_that_died_and_gives_the_same_features(
    arguments: Arguments, tmp_path: Path, animal: Callable[[str], Animal]
) -> None:
    data = write_archives(tmp_path / "data", many_photos())
    options = ("--batch-size", "2", "--shard-samples", "4", "--split", "train")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--max-restarts=1"),
            # "--": without it torchrun takes --run for an ambiguous option of its own.
            *("--nproc-per-node=2", "--monitor-interval=0.1", "-m", "--", "alphafix"),
            *arguments(*options, data=data, net="mortal_net"),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'run'}\n"  # one process speaks for all
    assert "exitcode: -9" in done.stderr  # it did die
    given: dict[str, Any] = animal("python").options
    single = ExtractOptions(
        run=tmp_path / "single",
        data=data,
        split="train",
        batch_size=2,
        shard_samples=4,
        workers=0,
        **given,
    )
    extract(single)
    a, b = (FeatureStore.open(tmp_path / run / "features/train") for run in ("single", "run"))
    b.verify()
    assert a.ids == b.ids
    assert (a.array() == b.array()).all()
