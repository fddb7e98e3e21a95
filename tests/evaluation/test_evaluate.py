from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from alphafix.commands.app import app
from alphafix.commands.evaluate.options import EvaluateOptions
from alphafix.errors import FileFormatError, MissingStageError, StaleInputError
from alphafix.metrics.evaluation import Evaluation
from alphafix.metrics.gates import Gates, check_gates, class_drops, failed
from alphafix.report.layout import lay_out, plain
from alphafix.report.tables import table_of
from alphafix.run.directory import CLASSES, CORRECTION, HEAD, REPORT, Run
from alphafix.values.classes import ClassTable
from alphafix.values.head import Head
from tests.common import make_problem
from tests.evaluation.problems import corrected_run
from tests.stages import evaluate

FAST = 100


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return corrected_run(tmp_path_factory.mktemp("evaluate") / "run")


@pytest.fixture(scope="module")
def found(run: Run) -> Evaluation:
    return evaluate(EvaluateOptions(run=run.folder, bootstraps=FAST))


def command(run: Run, *arguments: str) -> tuple[int, str, str]:
    given = ["evaluate", "--run", str(run.folder), "--bootstraps", str(FAST), *arguments]
    result = CliRunner().invoke(app, given)
    return result.exit_code, result.stdout, result.stderr


def test_evaluate__counts_are_those_of_the_heads(run: Run, found: Evaluation) -> None:
    problem = make_problem(num_classes=16, spread=1.5)
    predicted = problem.head.logits(problem.features["test"]).argmax(axis=1)
    right = predicted == problem.labels["test"]
    few = np.isin(problem.labels["test"], problem.classes.few)
    figure = found.tier("few").figures["top1"]
    assert figure.base is not None
    assert figure.base.value == pytest.approx(100 * right[few].mean())
    assert found.by_class.base.sum() == right.sum()
    assert found.samples == len(right)


def test_evaluate__few_up_base_down_and_change_is_the_difference(found: Evaluation) -> None:
    for split in found.tiers:
        for figure in split.figures.values():
            assert figure.base is not None
            assert figure.corrected is not None
            assert figure.change is not None
            difference = figure.corrected.value - figure.base.value
            assert figure.change.value == pytest.approx(difference)
            assert figure.change.low <= figure.change.high
    few, base = (found.tier(name).figures["top1"].change for name in ("few", "base"))
    assert few is not None
    assert base is not None
    assert few.low > 0 > base.value


def test_evaluate__round_trip_and_provenance(run: Run, found: Evaluation) -> None:
    loaded = Evaluation.load(run.path(REPORT))
    assert loaded.to_dict() == found.to_dict()
    provenance = run.provenance(REPORT)
    options = provenance["options"]
    assert (options["on"], options["bootstraps"], options["seed"]) == ("test", FAST, 0)
    assert "min_few_gain" not in options
    expected = {CLASSES, HEAD, CORRECTION, "features/test/manifest.json"}
    assert set(provenance["inputs"]) == expected
    run.require_fresh(REPORT)


def test_evaluate__again_gives_the_same_bytes(run: Run, found: Evaluation) -> None:
    before = run.path(REPORT).read_bytes()
    evaluate(EvaluateOptions(run=run.folder, bootstraps=FAST))
    assert run.path(REPORT).read_bytes() == before


def test_evaluate__stale_correction(tmp_path: Path) -> None:
    run = corrected_run(tmp_path / "run")
    problem = make_problem(num_classes=16, seed=5)
    problem.head.save(run.path(HEAD), overwrite=True)
    with pytest.raises(StaleInputError, match=r"alphafix\.train\("):
        evaluate(EvaluateOptions(run=run.folder))
    assert not run.has(REPORT)


def test_evaluate__missing_stage_names_the_command(tmp_path: Path) -> None:
    run = corrected_run(tmp_path / "run")
    run.path(CORRECTION).unlink()
    with pytest.raises(MissingStageError, match=r"alphafix\.train\("):
        evaluate(EvaluateOptions(run=run.folder))


def test_evaluate__empty_split_is_not_applicable(tmp_path: Path) -> None:
    problem = make_problem(num_classes=16, spread=1.5)
    counts = np.where(problem.classes.counts >= 20, 500, problem.classes.counts)
    problem = replace(problem, classes=ClassTable(problem.classes.names, counts))
    run = corrected_run(tmp_path / "run", problem)
    found = evaluate(EvaluateOptions(run=run.folder, bootstraps=FAST))
    figure = found.tier("medium").figures["top1"]
    assert (figure.base, figure.corrected, figure.change) == (None, None, None)
    assert Evaluation.load(run.path(REPORT)).to_dict() == found.to_dict()
    lines = plain(lay_out([table_of(found)])).splitlines()
    line = next(line for line in lines if line.startswith("medium"))
    assert line.split()[1:] == ["0", "0", *["n/a", "(0", "classes)"] * 3]
    assert "NaN" not in run.path(REPORT).read_text()


def test_load__says_what_the_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text('{"value": "other"}')
    with pytest.raises(FileFormatError, match=r"alphafix\.evaluate"):
        Evaluation.load(path)


def said(stderr: str) -> list[str]:
    """What stderr says besides that the evaluation, which the fixture made, is up to date."""
    first, *rest = stderr.strip().splitlines()
    assert first.rstrip().endswith("report.json is up to date")
    return [line for line in rest if not line.startswith("next: alphafix neighbors")]


def test_command__prints_thresholds_counts_and_all_splits(run: Run) -> None:
    code, out, err = command(run)
    assert (code, said(err)) == (0, [])
    assert "4 few, 7 medium, 5 many (few < 20, medium 20..100, many > 100" in out
    firsts = [line.split()[0] for line in out.splitlines() if line and line[0].isalpha()]
    assert firsts[2:7] == ["few", "medium", "many", "other", "overall"]


def test_command__json_is_the_report_and_its_gates(run: Run) -> None:
    code, out, err = command(run, "--json", "--min-few-gain", "0")
    assert (code, said(err)) == (0, [])
    data = json.loads(out)
    gates = data.pop("gates")
    assert data == json.loads(run.path(REPORT).read_text())
    assert [(gate["gate"], gate["met"]) for gate in gates] == [("--min-few-gain", True)]


def test_command__failing_gates_exit_3_with_a_line_each(run: Run) -> None:
    arguments = ["--min-few-gain", "90", "--max-overall-drop", "50", "--max-base-drop", "0"]
    code, out, err = command(run, *arguments, "--max-class-drop", "0")
    assert code == 3
    assert out.count("overall") > 1
    lines = said(err)
    assert lines[0] == "error: a gate is not met"
    flags = [line.split(":")[0] for line in lines[1:]]
    assert flags == ["--min-few-gain 90", "--max-base-drop 0", "--max-class-drop 0"]
    assert "not at least 90" in lines[1]


def test_command__gates_that_hold_exit_0(run: Run) -> None:
    code, _, err = command(run, "--min-few-gain", "1", "--max-overall-drop", "50")
    assert (code, said(err)) == (0, [])


def test_command__usage_error_is_2(run: Run) -> None:
    assert command(run, "--on", "train")[0] == 2


def test_gates__figure_and_interval_differ(found: Evaluation) -> None:
    change = found.tier("few").figures["top1"].change
    assert change is not None
    between = (change.low + change.value) / 2
    assert change.low < between < change.value
    assert not failed(check_gates(found, Gates(min_few_gain=between)))
    outcome = check_gates(found, Gates(min_few_gain=between, confident=True))[0]
    assert not outcome.met
    assert outcome.value == change.low
    assert "95% interval" in outcome.line


def test_gates__drop_holds_the_far_end_of_its_interval(found: Evaluation) -> None:
    change = found.tier("base").figures["top1"].change
    assert change is not None
    between = -(change.low + change.value) / 2
    assert not failed(check_gates(found, Gates(max_base_drop=between)))
    assert failed(check_gates(found, Gates(max_base_drop=between, confident=True)))


def test_gates__exactly_the_limit_is_met(found: Evaluation) -> None:
    change = found.tier("few").figures["top1"].change
    worst = float(-np.nanmin(found.by_class.change))
    assert change is not None
    assert not failed(check_gates(found, Gates(min_few_gain=change.value, max_class_drop=worst)))
    assert failed(check_gates(found, Gates(max_class_drop=worst - 0.1)))


def test_class_drops__are_those_of_the_gate(found: Evaluation) -> None:
    change = found.by_class.change
    worst = int(np.nanargmin(change))
    for limit in (0.0, 1.0, float(np.sort(-change)[-2]), 50.0, 100.0):
        gate = check_gates(found, Gates(max_class_drop=limit))[0]
        told = class_drops(found, limit)
        assert told.partition("; ")[0] == gate.line.partition(", ")[0]
        assert f"({found.classes.names[worst]}) {-change[worst]:.2f} points" in told
        over = int((change < -limit - 1e-9).sum())
        count = {0: "none drops", 1: "1 class drops"}.get(over, f"{over} classes drop")
        assert told.endswith(f"; {count} more than {limit:g}")


def test_gates__what_cannot_be_measured_is_not_met(found: Evaluation) -> None:
    emptied = replace(found.tier("few"), figures={"top1": found.tier("few").figures["top1"]})
    figure = replace(emptied.figures["top1"], change=None)
    splits = (replace(emptied, figures={"top1": figure}), *found.tiers[1:])
    outcome = check_gates(replace(found, tiers=splits), Gates(min_few_gain=-50))[0]
    assert not outcome.met
    assert "n/a" in outcome.line


def test_evaluate__a_base_head_near_chance_is_told_each_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    problem = make_problem(num_classes=16, spread=1.5)
    turned = Head(np.roll(problem.head.weight, 1, axis=0), np.roll(problem.head.bias_or_zeros, 1))
    run = corrected_run(tmp_path, replace(problem, head=turned))
    options = EvaluateOptions(run=run.folder, bootstraps=FAST)
    right = (turned.predict(problem.features["test"]) == problem.labels["test"]).mean()
    for _ in range(2):  # the second time it is up to date
        caplog.clear()
        evaluate(options)
        assert f"the base head is right on {100 * right:.1f}% of test" in caplog.text
