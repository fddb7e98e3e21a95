"""`alphafix train --at`: what a limit promised, and whether it still does after a move."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file
from typer.testing import CliRunner

from alphafix.commands.app import app
from alphafix.commands.compare.options import CompareOptions
from alphafix.commands.neighbors.options import NeighborsOptions
from alphafix.commands.patch.options import PatchOptions
from alphafix.commands.train.options import TrainOptions
from alphafix.metrics.limits import Limits, Samples
from alphafix.metrics.trade_off import Contest
from alphafix.report.tables import table_of
from alphafix.run.directory import CORRECTION, Run
from alphafix.values.correction import Correction
from alphafix.values.curve import Point
from tests.common import Problem, make_problem, write_run
from tests.stages import compare, find_neighbors, patch, train

FAST = {"seeds": 2, "epochs": 6, "hidden": (8, 8)}


def options(run: Run, **more: object) -> TrainOptions:
    return TrainOptions.model_validate({"run": run.folder, **FAST, **more})


@pytest.fixture
def ample(tmp_path: Path) -> tuple[Run, Problem]:
    """A run with so many validation samples that something can be promised."""
    problem = make_problem(num_classes=12, spread=1.5)
    rng = np.random.default_rng(5)
    centers = np.stack(
        [problem.features["test"][problem.labels["test"] == c].mean(axis=0) for c in range(12)]
    )
    problem.labels["val"] = np.repeat(np.arange(12), 400)
    noise = 1.5 * rng.normal(size=(4800, 8))
    problem.features["val"] = (centers[problem.labels["val"]] + noise).astype(np.float32)
    run = write_run(tmp_path / "run", problem)
    find_neighbors(NeighborsOptions(run=run.folder))
    return run, problem


@pytest.mark.parametrize("method", ["few-bias", "lda", "alphanet"])
def test_train__at_keeps_the_promise_where_the_point_is_within_it_and_says_so(
    ample: tuple[Run, Problem], method: str, caplog: pytest.LogCaptureFixture
) -> None:
    run, problem = ample
    how = {"method": method, "max_overall_drop": 2.0}
    how |= {"select": "constrained"} if method == "alphanet" else {}
    first = train(options(run, **how))
    assert not first.is_base
    promise, curve, chosen = first.chosen.promise, first.curve, first.chosen.offset
    assert promise is not None
    assert promise["holds"]
    assert curve is not None
    # The slack of the curve is that of the samples, at any of its offsets.
    right = problem.head.predict(problem.features["val"]) == problem.labels["val"]
    samples = Samples(problem.classes, problem.labels["val"], right, Limits(2.0))
    for offset in (chosen, chosen - 0.3, chosen + 1.0):
        moved = first.moved(Point("t", offset), problem.head, problem.classes.few)
        logits = moved.apply(problem.head).logits(problem.features["val"])
        contest = Contest.of(logits, problem.labels["val"], problem.classes.few)
        slack = samples.slack(samples.flips(contest, np.zeros(1)))[0]
        assert moved.chosen.promise is not None
        assert moved.chosen.promise["holds"] == (slack >= promise["margin"] - 1e-9)
    for offset, holds in ((chosen - 0.3, True), (chosen + 1.0, False), (chosen, True)):
        caplog.clear()
        moved = train(options(run, **how, at=f"t={offset}"))
        kept = Correction.load(run.path(CORRECTION)).chosen
        assert kept == moved.chosen
        assert kept.promise is not None
        assert kept.promise["holds"] == holds
        assert kept.promise["limits"] == promise["limits"]
        assert kept.val is not None
        assert kept.val_base is not None
        gain = (kept.val["few"] or 0.0) - (kept.val_base["few"] or 0.0)
        assert kept.promise["few_gain"] == pytest.approx(gain)
        words = "is within what was promised" if holds else "nothing is promised of fresh samples"
        assert words in (kept.limit or "")
        assert "at most 2 points lost overall with 95% confidence" in (kept.limit or "")
        assert (words in caplog.text) == (not holds)
        shown = CliRunner().invoke(app, shlex.split(f"train --run {run.folder} --at t={offset}"))
        assert shown.exit_code == 0
        assert words in " ".join((shown.stdout + shown.stderr).split())
        table = table_of(moved)
        assert table.notes[-1] == kept.limit


def test_train__a_moved_correction_without_limits_promises_nothing(
    ample: tuple[Run, Problem],
) -> None:
    run, _ = ample
    train(options(run, allow_worse=True))
    assert train(options(run, allow_worse=True, at="t=0.4")).chosen.promise is None


def test_patch_and_compare__say_that_a_promise_holds_no_longer(
    ample: tuple[Run, Problem], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, problem = ample
    first = train(options(run, method="few-bias", max_overall_drop=2.0))
    far = first.chosen.offset + 1.0
    train(options(run, method="few-bias", max_overall_drop=2.0, at=f"t={far}"))
    model = tmp_path / "model.safetensors"
    save_file({"fc.weight": problem.head.weight, "fc.bias": problem.head.bias_or_zeros}, model)
    patched = patch(PatchOptions(file=model, run=run.folder, card=tmp_path / "README.md"))
    assert "nothing is promised of fresh samples any longer" in caplog.text
    card = (tmp_path / "README.md").read_text()
    limit = card[card.index("## Limit") :]
    assert limit.splitlines()[2].endswith("nothing is promised of fresh samples any longer.")
    with safe_open(patched.target, framework="numpy") as file:
        assert '"holds": false' in file.metadata()["alphafix"].replace('":false', '": false')
    settings = CompareOptions(
        run=run.folder, methods=("few-bias",), rho=(0.5,), seeds=1, on_top=False
    )
    found = compare(settings)
    assert (
        "moved beyond the limit that it was made for (at most 2 points lost overall with 95% "
        "confidence on fresh samples), so that it promises nothing of fresh samples."
    ) in found.verdict[1]
