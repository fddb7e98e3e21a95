"""TensorBoard and Weights & Biases: the real packages, read back from what they wrote."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typer.testing import CliRunner
from wandb.proto.wandb_internal_pb2 import Record

from alphafix.commands.app import app
from alphafix.errors import MissingPackageError
from alphafix.loggers import Destinations, LoggerName
from alphafix.run.directory import CORRECTION, METRICS, Run
from tests.common import make_problem, write_run

runner = CliRunner()


@pytest.fixture(autouse=True)
def fresh_wandb() -> Iterator[None]:
    """The package keeps its settings for as long as a process lives."""
    wandb.teardown()
    yield
    wandb.teardown()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = write_run(tmp_path / "run", make_problem(num_classes=16))
    assert runner.invoke(app, ["neighbors", "--run", str(made.folder)]).exit_code == 0
    return made


def train(run: Run, *flags: str) -> tuple[int, str, str]:
    given = ["train", "--run", str(run.folder), "--epochs", "6", *flags]
    done = runner.invoke(app, given)
    return done.exit_code, done.stdout, done.stderr


def read_wandb(folder: Path) -> list[dict[str, Any]]:
    """What the runs in a folder of Weights & Biases hold, by name."""
    wandb.teardown()  # so that its process has written all
    found = [read_wandb_file(path) for path in folder.glob("wandb/offline-run-*/*.wandb")]
    return sorted(found, key=lambda one: str(one["name"]))


def read_wandb_file(path: Path) -> dict[str, Any]:
    """Project, group, name, config and logged rows of one run."""
    found: dict[str, Any] = {"rows": []}
    for data in records(path.read_bytes()):
        record = Record.FromString(data)
        if record.WhichOneof("record_type") == "run":
            run = record.run
            found |= {"project": run.project, "name": run.display_name, "group": run.run_group}
            found["config"] = {one.key: json.loads(one.value_json) for one in run.config.update}
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            row = {one.key or one.nested_key[0]: json.loads(one.value_json) for one in items}
            found["rows"].append(row)
    return found


def records(data: bytes) -> Iterator[bytes]:
    """The records of a file of Weights & Biases: LevelDB's log format after 7 bytes."""
    block, place, record = 32768, 7, b""
    while place + 7 <= len(data):
        if block - place % block < 7:  # a header is never broken: the rest of a block is empty
            place += block - place % block
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


@pytest.mark.slow
def test_wandb__offline_has_the_history_of_each_trial(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    code, stdout, stderr = train(run, "--logger", "wandb", "--seeds", "2")
    assert (code, stdout) == (0, f"{run.path(CORRECTION)}\n"), stderr
    lines = [json.loads(line) for line in run.path(METRICS).read_text().splitlines()]
    logged = read_wandb(run.folder)
    assert [one["name"] for one in logged] == ["rho-0.5-k-5-seed-0", "rho-0.5-k-5-seed-1"]
    for seed, one in enumerate(logged):
        assert (one["project"], one["group"]) == ("alphafix", "run")
        setting = {name: one["config"][name] for name in ("rho", "k", "seed")}
        assert setting == {"rho": 0.5, "k": 5, "seed": seed}
        rows = one["rows"]
        of_seed = [line for line in lines if line["seed"] == seed]
        assert [row["loss"] for row in rows] == [line["loss"] for line in of_seed]
        assert [row["_step"] for row in rows] == [line["epoch"] for line in of_seed]


def test_wandb__without_an_account_is_refused_before_training(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    code, stdout, stderr = train(run, "--logger", "wandb")
    assert (code, stdout) == (1, "")
    assert "wandb login" in stderr
    assert "WANDB_MODE=offline" in stderr
    assert not run.has(CORRECTION)


def test_tensorboard__goes_into_the_run_directory(run: Run) -> None:
    code, _, stderr = train(run, "--logger", "tensorboard", "--seeds", "1")
    assert code == 0, stderr
    folder = run.path("tensorboard") / "rho-0.5-k-5-seed-0"
    shown = EventAccumulator(str(folder)).Reload().Scalars("val_overall")
    assert [event.step for event in shown] == [5, 6]  # those that may be chosen


def test_loggers__do_not_change_what_is_trained(run: Run) -> None:
    assert train(run, "--seeds", "1")[0] == 0
    before = run.path(CORRECTION).read_bytes()
    code, _, stderr = train(run, "--seeds", "1", "--logger", "tensorboard", "--overwrite")
    assert code == 0, stderr
    assert run.path(CORRECTION).read_bytes() == before


def test_logger__another_name_is_a_usage_error(run: Run) -> None:
    code, stdout, stderr = train(run, "--logger", "csv")
    assert (code, stdout) == (2, "")
    assert "'tensorboard' or 'wandb'" in stderr


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_loggers__a_package_that_is_missing_is_named(
    name: LoggerName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What an import finds where a package is not installed.
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    destinations = Destinations.of((name,), tmp_path)
    with pytest.raises(MissingPackageError, match=rf"pip install 'alphafix\[{name}\]'"):
        destinations.require()


@pytest.mark.slow
def test_destinations__several_logs_get_the_same_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_PROJECT", "tails")
    destinations = Destinations.of(("tensorboard", "wandb"), tmp_path)
    with destinations.open("one", {"lr": 0.1}) as log:
        for step, loss in enumerate((2.0, 1.0)):
            log.add({"loss": loss}, step)
    events = EventAccumulator(str(tmp_path / "tensorboard/one")).Reload().Scalars("loss")
    assert [(event.step, event.value) for event in events] == [(0, 2.0), (1, 1.0)]
    (logged,) = read_wandb(tmp_path)
    assert (logged["project"], logged["name"]) == ("tails", "one")
    assert [(row["_step"], row["loss"]) for row in logged["rows"]] == [(0, 2.0), (1, 1.0)]
