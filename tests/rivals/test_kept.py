"""Methods that are kept as they are fitted, the time that they may take, and threads."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from alphafix.commands.app import app
from alphafix.commands.neighbors.options import NeighborsOptions
from alphafix.errors import FileFormatError
from alphafix.metrics.comparison import Row
from alphafix.progress import Whole, silent
from alphafix.rivals import RIVALS
from alphafix.rivals.budget import MOST_AT_ONCE, Budget, OutOfTime
from alphafix.rivals.comparing import _Comparing
from alphafix.rivals.data import FitData
from alphafix.rivals.kept import FinishedMethods, offer
from alphafix.rivals.steering import best_first
from alphafix.run.directory import COMPARISON, FITTED, Run
from alphafix.threads import Workers
from tests.common import make_problem, write_run
from tests.processes import start_alphafix
from tests.rivals.problems import small_data
from tests.stages import find_neighbors


@pytest.fixture(scope="module")
def data() -> FitData:
    return small_data(scale=2.0)


@pytest.mark.parametrize("name", ["crt", "weight-balancing"])
def test_kept__is_the_method_that_was_fitted(name: str, data: FitData, tmp_path: Path) -> None:
    finished, rival = FinishedMethods(tmp_path, "these"), RIVALS[name]
    fitted, seconds = offer(rival, data, finished)
    again, recorded = offer(rival, data, finished)
    assert recorded == seconds
    assert again.method == fitted.method == name
    assert len(again.paths) == len(fitted.paths)
    for place in range(len(fitted.paths)):
        one, other = (offered.build(place, 0.0) for offered in (fitted, again))
        assert (one.logits(data.val_features) == other.logits(data.val_features)).all()
        assert one.settings == other.settings
        assert one.val == other.val
        assert one.correction is not None
        assert other.correction is not None
        assert one.correction.chosen.to_dict() == other.correction.chosen.to_dict()


def test_kept__not_for_other_data_or_another_seed(data: FitData, tmp_path: Path) -> None:
    finished, rival = FinishedMethods(tmp_path, "these"), RIVALS["crt"]
    offer(rival, data, finished)
    assert finished.get(rival, data) is not None
    assert FinishedMethods(tmp_path, "those").get(rival, data) is None
    assert finished.get(rival, replace(data, seed=1)) is None
    assert finished.get(RIVALS["lws"], data) is None
    assert offer(RIVALS["few-bias"], data, finished)[0].method == "few-bias"
    assert len(list(tmp_path.iterdir())) == 1  # closed forms are not kept


def test_kept__a_changed_file_is_refused(data: FitData, tmp_path: Path) -> None:
    finished, rival = FinishedMethods(tmp_path, "these"), RIVALS["lws"]
    offer(rival, data, finished)
    (file,) = tmp_path.iterdir()
    changed = bytearray(file.read_bytes())
    changed[-1] ^= 1
    file.write_bytes(changed)
    with pytest.raises(FileFormatError):
        finished.get(rival, data)


@pytest.mark.parametrize("name", [name for name, rival in RIVALS.items() if rival.trains])
def test_budget__ends_the_training_of_every_method(name: str, data: FitData) -> None:
    spent = replace(data, budget=Budget(1e-9))
    spent.budget.begin()
    with pytest.raises(OutOfTime):
        RIVALS[name].offer(spent)


def test_budget__does_not_run_before_it_begins() -> None:
    budget = Budget(1e-9)
    budget.tick()
    budget.begin()
    with pytest.raises(OutOfTime):
        budget.tick()
    endless = Budget()
    endless.begin()
    with endless.watching(silent)("training", 3) as advance:
        advance(1)
        endless.stop()
        with pytest.raises(OutOfTime):
            advance(1)


def test_workers__an_error_stops_what_trains(data: FitData) -> None:
    threads, begun, ended = torch.get_num_threads(), threading.Event(), threading.Event()
    budget = Budget()

    def train() -> None:
        try:
            while True:
                begun.set()
                budget.tick()
        except OutOfTime:
            ended.set()
            raise

    def interrupted() -> None:
        with Workers(MOST_AT_ONCE, budget.stop) as workers:
            workers.do(train)
            begun.wait(10)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert ended.is_set()
    assert torch.get_num_threads() == threads


def test_workers__methods_side_by_side_are_those_one_after_another(data: FitData) -> None:
    names = ["crt", "model-regression", "metamodelnet"]
    more = {"model-regression": {"steps": 20}, "metamodelnet": {"steps": 5}}

    def fitted(name: str) -> Any:
        return RIVALS[name].fit(data, **more.get(name, {})).logits(data.val_features)

    alone = [fitted(name) for name in names]
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with Workers(MOST_AT_ONCE, Budget().stop) as workers:
            together = [workers.do(partial(fitted, name)) for name in names]
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(other.result(), one, rtol=1e-4, atol=1e-4)


def test_whole__parts_in_any_order_fill_one_bar() -> None:
    moved: list[int] = []
    named: list[str] = []

    def progress(what: str, total: int | None) -> Any:
        named.append(what)
        return silent(what, total)

    with Whole(progress, "all", {"a": 1.0, "b": 3.0}) as whole:
        whole._advance = moved.append
        with whole.part("b") as within, within("training", 2) as advance:
            advance(1)
            with whole.part("a"):
                pass
            advance(1)
    assert moved == [375, 250, 375]
    assert named == ["all", "b (1 of 2)", "a (2 of 2)"]


def test_choices__two_settings_of_a_method_are_two_rows(data: FitData) -> None:
    work = _Comparing(data)
    fitted = RIVALS["few-bias"].fit(data)
    work.add(fitted, "simple", 0.0)
    assert work._row_of(fitted, None) == "few-bias"
    other, third = (replace(fitted, settings={"offset": offset}) for offset in (7.0, 8.0))
    names = [work._row_of(other, None), work._row_of(third, "the simple")]
    assert names == ["chosen: few-bias", "chosen of the simple: few-bias"]
    # Each is found again as the row that it is.
    assert [work._row_of(one, "the simple") for one in (fitted, other, third)] == [
        "few-bias",
        *names,
    ]
    assert [one.name for one in work.methods] == ["few-bias", *names]
    roles = dict(zip(("best", "simple"), names, strict=True))
    assert best_first([Row(one, {}, {}) for one in work.methods], roles)[0] == "few-bias"


def ready(folder: Path) -> Run:
    run = write_run(folder, make_problem(num_classes=16, spread=1.5))
    find_neighbors(NeighborsOptions(run=run.folder, k=3))
    return run


def figures(run: Run) -> list[Any]:
    """All of compare.json but for how long things took."""
    found = json.loads(run.path(COMPARISON).read_text())
    for row in found["rows"]:
        del row["method"]["seconds"]
    assert found["left_out"] == []
    return [found["rows"], found["by_k"], found["roles"], found["verdict"]]


METHODS = ["--methods", "few-bias,lws,crt", "--rho", "0.5", "--seeds", "1", "-k", "2"]
METHODS += ["--on-top-seeds", "1", "--bootstraps", "100"]


def compared(run: Run, *flags: str) -> Result:
    """What the command gives in this process."""
    found = CliRunner().invoke(app, ["compare", "--run", str(run.folder), *METHODS, *flags])
    assert found.exit_code == 0, found.stderr
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The figures of a comparison that nothing has cut off."""
    run = ready(tmp_path_factory.mktemp("whole") / "run")
    compared(run)
    assert not run.path(FITTED).exists()
    return figures(run)


@pytest.mark.slow
def test_compare__time_leaves_out_what_trains_and_the_same_command_goes_on(
    tmp_path: Path, whole: list[Any]
) -> None:
    run = ready(tmp_path / "run")
    short = compared(run, "--time", "1e-9", "--json")
    found = json.loads(short.stdout)
    left = ["crt", "lws", "alphanet on few-bias", "alphanet with k 2"]
    assert sorted(found["left_out"]) == sorted(left)
    names = {row["method"]["name"] for row in found["rows"]}
    assert {"base head", "alphanet rho 0.5", "few-bias"} <= names
    assert not names & {"crt", "lws"}
    for name in left:
        assert name in short.stderr
    compared(run)
    assert figures(run) == whole
    assert {"crt", "lws", "alphanet on crt"} <= {row["method"]["name"] for row in whole[0]}
    assert not run.path(FITTED).exists()
    assert "is up to date" in compared(run, "--time", "5").stderr


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_compare__killed_goes_on_and_ends_the_same(
    tmp_path: Path, stop: signal.Signals, whole: list[Any]
) -> None:
    run = ready(tmp_path / "run")
    words = ["compare", "--run", str(run.folder), *METHODS]
    process = start_alphafix(words, tmp_path, tmp_path / "told")
    until = time.monotonic() + 120
    while len(list(run.path(FITTED).glob("*/*.safetensors"))) < 2:
        assert process.is_alive()
        assert time.monotonic() < until
        time.sleep(0.005)
    assert process.pid is not None
    os.kill(process.pid, stop)
    process.join(60)
    told = (tmp_path / "told/stderr").read_text()
    assert process.exitcode == (1 if stop == signal.SIGINT else -9), told
    assert not run.has(COMPARISON)
    again = compared(run)
    assert "finished trials found" in again.stderr or "is fitted already" in again.stderr
    assert figures(run) == whole
    assert not run.path(FITTED).exists()


def test_train_auto__chooses_among_the_methods_that_are_named(tmp_path: Path) -> None:
    run = ready(tmp_path / "run")
    arguments = ["train", "--run", str(run.folder), "--method", "auto", "--confidence", "0.5"]
    arguments += ["--methods", "few-bias,lws", "--json"]
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 0, found.stderr
    chosen = json.loads(found.stdout)["chosen"]["auto"]
    assert {one["method"] for one in chosen["tried"]} == {"few-bias", "lws"}
    assert "training" not in found.stderr  # no AlphaNet
    short = CliRunner().invoke(app, [*arguments, "--overwrite", "--time", "1e-9"])
    assert json.loads(short.stdout)["chosen"]["auto"]["left_out"] == ["lws"]
    assert "the time was up for: lws" in short.stderr
    refused = CliRunner().invoke(app, [*arguments, "--methods", "few-bias,ncm-l2"])
    assert refused.exit_code == 2
    assert "ncm-l2 is none" in refused.stderr
    alone = CliRunner().invoke(app, ["train", "--run", str(run.folder), "--time", "5"])
    assert alone.exit_code == 2
    assert "--method auto" in alone.stderr
