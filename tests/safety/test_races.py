"""Two commands at once on one model file: one wins, and the original can always be had back."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import save_file

from alphafix.commands.neighbors.options import NeighborsOptions
from alphafix.commands.train.options import TrainOptions
from tests.common import make_problem, write_run
from tests.stages import find_neighbors, train

ALPHAFIX = [sys.executable, "-m", "alphafix"]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("race")
    problem = make_problem()
    write_run(folder / "one", problem)
    find_neighbors(NeighborsOptions(run=folder / "one", k=3))
    train(TrainOptions(run=folder / "one", seeds=2, epochs=6))
    # Other run directories, so that no lock of a run is in the way.
    shutil.copytree(folder / "one", folder / "copy")
    shutil.copytree(folder / "one", folder / "two")
    train(TrainOptions(run=folder / "two", seeds=1, epochs=6, overwrite=True))
    tensors = {"fc.weight": problem.head.weight, "fc.bias": problem.head.bias_or_zeros}
    save_file(tensors, folder / "original.safetensors")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("other", "exits"),
    [("two", [0, 1]), pytest.param("copy", [0, 0], id="of the same correction")],
)
def test_patch__two_in_place_at_once_leave_one_undo_record(
    work: Path, other: str, exits: list[int]
) -> None:
    model = work / f"of-{other}.safetensors"
    shutil.copy(work / "original.safetensors", model)
    patch = [*ALPHAFIX, "patch", str(model), "--in-place", "--run"]
    racers = [
        subprocess.Popen(
            [*patch, str(work / run)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for run in ("one", other)
    ]
    assert sorted(racer.wait(60) for racer in racers) == exits
    assert model.read_bytes() != (work / "original.safetensors").read_bytes()
    assert len(list(work.glob(f"of-{other}.*undo*"))) == 1
    revert = [*ALPHAFIX, "patch", "--revert", str(model), "--run", str(work / "one")]
    subprocess.run(revert, check=True, capture_output=True)
    assert model.read_bytes() == (work / "original.safetensors").read_bytes()
