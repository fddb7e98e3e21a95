"""Going on after a kill: the same weights to the bit, and nothing mixed."""

from __future__ import annotations

import json
import os
import signal
from functools import partial
from pathlib import Path

import pytest
import torch

from alphafix.commands.train_oltr.options import TrainOltrOptions
from alphafix.commands.train_oltr.work import state
from alphafix.errors import FileFormatError, TargetExistsError
from alphafix.files import atomic_path, read_json, read_tensors
from alphafix.oltr.training.checkpoints import Checkpoints, read_checkpoint
from alphafix.oltr.training.loop import StageState
from alphafix.run.artifact import State
from tests.oltr.drawings import RECIPE, write_folders, write_recipe
from tests.processes import start
from tests.stages import train_oltr

pytestmark = pytest.mark.slow

EPOCHS = 5


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    write_folders(folder / "data")
    write_recipe(folder / "recipe.yaml", RECIPE.replace("epochs: 2", f"epochs: {EPOCHS}"))
    return folder


def options_of(work: Path, output: str, **more: object) -> TrainOltrOptions:
    return TrainOltrOptions.model_validate(
        {
            "data": str(work / "data"),
            "recipe": str(work / "recipe.yaml"),
            "output": work / output,
            "workers": 0,
            "device": "cpu",
            **more,
        }
    )


@pytest.fixture(scope="module")
def whole(work: Path) -> Path:
    """The training that nothing interrupted."""
    process = start(options_of(work, "whole"))
    process.join(120)
    assert process.exitcode == 0
    return work / "whole"


def lines(folder: Path) -> list[dict[str, object]]:
    path = folder / "metrics.jsonl"
    found = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    for record in found:
        record.pop("seconds")
    return found


def kill_at(options: TrainOltrOptions, stage: int, epoch: int, *, half_written: bool) -> None:
    """Run a training that is killed as it writes the state of that epoch, or just after it.

    It kills itself, so that it dies at this very place whatever the load of the machine.
    """
    process = start(options, prepare=partial(die_at, stage, epoch, half_written))
    process.join(120)
    assert process.exitcode == -signal.SIGKILL


def die_at(stage: int, epoch: int, half_written: bool) -> None:
    """Have this process kill itself there."""
    save = Checkpoints.save

    def killing(self: Checkpoints, state: StageState) -> None:
        if (state["stage"], state["epoch"]) != (stage, epoch):
            save(self, state)
            return
        if half_written:
            with atomic_path(self.path(stage), overwrite=True) as temporary:
                torch.save(state, temporary)
                os.kill(os.getpid(), signal.SIGKILL)
        save(self, state)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(Checkpoints, "save", killing)  # noqa: B010 (mypy knows no other way)


def test_kill__in_each_stage_changes_no_bit(work: Path, whole: Path) -> None:
    options = options_of(work, "killed")
    for stage in (1, 2):
        kill_at(options, stage, 3, half_written=True)
        kill_at(options, stage, 4, half_written=False)
        assert not (options.output / "config.json").exists()
    # In a process like the others: another number of threads would sum in another order.
    process = start(options)
    process.join(120)
    assert process.exitcode == 0
    assert lines(options.output) == lines(whole)
    assert len(lines(whole)) == 2 * EPOCHS
    for name in ("model.safetensors", "config.json", "evaluation.json"):
        assert (options.output / name).read_bytes() == (whole / name).read_bytes()
    for stage in (1, 2):
        one, other = (
            read_checkpoint(folder / "checkpoint" / f"stage-{stage}.pt")
            for folder in (options.output, whole)
        )
        for part in ("model", "best_weights"):
            assert one[part].keys() == other[part].keys()
            assert all(torch.equal(one[part][name], other[part][name]) for name in one[part])
        momenta = [state["optimiser"]["state"] for state in (one, other)]
        assert momenta[0].keys() == momenta[1].keys()
        for number, value in momenta[0].items():
            assert torch.equal(value["momentum_buffer"], momenta[1][number]["momentum_buffer"])
    assert not list(options.output.rglob("*.tmp"))


def test_a_finished_training__is_left_as_it_is(work: Path, whole: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file()}
    found = train_oltr(options_of(work, "whole"))
    assert found.folder == whole
    after = {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file()}
    assert after == before


def test_a_finished_training__is_only_evaluated_again_where_just_that_changes(
    work: Path, whole: Path
) -> None:
    model = (whole / "model.safetensors").stat().st_mtime_ns
    found = train_oltr(options_of(work, "whole", openmax=True))
    assert [row["method"] for row in found.evaluation["detection"]] == ["max-softmax", "OpenMax"]
    assert (whole / "model.safetensors").stat().st_mtime_ns == model
    train_oltr(options_of(work, "whole"))


def test_state__tells_what_is_to_do_without_training(work: Path, whole: Path) -> None:
    assert state(options_of(work, "nothing")) is State.MISSING
    assert state(options_of(work, "whole")) is State.CURRENT
    assert state(options_of(work, "whole", odin=True)) is State.MISSING  # evaluated otherwise
    assert state(options_of(work, "whole", seed=1)) is State.OTHER
    assert not (work / "nothing").exists()


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"seed": 1}, "seed 0, now 1"),
        ({"method": "plain"}, "method 'oltr', now 'plain'"),
        ({"lr": "0.1"}, "recipe.stages"),
        ({"memory": False}, "memory True, now False"),
    ],
)
def test_other_options__are_an_error_that_names_overwrite(
    work: Path, whole: Path, changed: dict[str, object], says: str
) -> None:
    before = (whole / "model.safetensors").read_bytes()
    with pytest.raises(TargetExistsError) as error:
        train_oltr(options_of(work, "whole", **changed))
    assert says in str(error.value)
    assert "overwrite=True" in str(error.value)
    assert (whole / "model.safetensors").read_bytes() == before


def test_other_data__is_an_error(work: Path, whole: Path, tmp_path: Path) -> None:
    write_folders(tmp_path / "data")
    (tmp_path / "data/train/cup/00.png").unlink()
    with pytest.raises(TargetExistsError, match=r"inputs\.train"):
        train_oltr(options_of(work, "whole", data=str(tmp_path / "data")))


def test_overwrite__begins_again(work: Path, whole: Path) -> None:
    options = options_of(work, "again")
    train_oltr(options)
    other = options_of(work, "again", seed=3, overwrite=True)
    train_oltr(other)
    tensors = [read_tensors(folder / "model.safetensors")[0] for folder in (options.output, whole)]
    assert any((tensors[0][name] != tensors[1][name]).any() for name in tensors[0])
    assert read_json(options.output / "checkpoint/plan.json")["options"]["seed"] == 3


def test_a_damaged_checkpoint__is_named(work: Path, whole: Path) -> None:
    options = options_of(work, "damaged")
    kill_at(options, 1, 2, half_written=False)
    path = options.output / "checkpoint/stage-1.pt"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(FileFormatError, match=r"stage-1\.pt is damaged[\s\S]*overwrite=True"):
        train_oltr(options)
    train_oltr(options_of(work, "damaged", overwrite=True))
    assert state(options) is State.CURRENT


def test_checkpoints__hold_nothing_that_runs_code(whole: Path) -> None:
    found = torch.load(whole / "checkpoint/stage-2.pt", weights_only=True)
    assert found["epoch"] == EPOCHS
    assert set(found) >= {"model", "optimiser", "objective", "scaler", "best_weights", "history"}
