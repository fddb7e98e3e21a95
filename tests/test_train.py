"""The stage `alphafix train`: choice, calibration, resuming, and its bad inputs."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from typer.testing import CliRunner, Result

from alphafix.alphanet.fit import SweepPlan, fit
from alphafix.alphanet.kept import FinishedTrials
from alphafix.alphanet.sources import hold_out
from alphafix.commands.app import app
from alphafix.commands.command import Watch
from alphafix.commands.neighbors.options import NeighborsOptions
from alphafix.commands.train.options import TrainOptions
from alphafix.commands.train.work import given_in, settings_of, work
from alphafix.errors import (
    FileFormatError,
    InputError,
    MissingStageError,
    StaleInputError,
    TargetExistsError,
)
from alphafix.features.store import FeatureStore
from alphafix.files import read_tensors, write_tensors
from alphafix.rivals.correct import correct
from alphafix.run.directory import CORRECTION, HEAD, METRICS, NEIGHBORS, UNFINISHED, Run
from alphafix.values.classes import ClassTable
from alphafix.values.correction import Correction
from alphafix.values.head import Head
from alphafix.values.neighbors import Neighbours
from tests.common import make_problem, write_run
from tests.docs.commands import in_folder
from tests.processes import start_alphafix
from tests.stages import find_neighbors, train

FAST = {"seeds": 2, "epochs": 6, "hidden": (8, 8)}


def options(run: Run, **more: object) -> TrainOptions:
    return TrainOptions.model_validate({"run": run.folder, **FAST, **more})


def make_run(folder: Path, *, splits: tuple[str, ...] = (), bias: bool = True) -> Run:
    run = write_run(folder, make_problem(num_classes=24, bias=bias), splits=splits)
    find_neighbors(NeighborsOptions(run=folder))
    return run


def planned(options: TrainOptions) -> SweepPlan:
    found = work(options.model_copy(update={"plan": True}), Watch()).plan
    assert found is not None
    return found


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path / "run")


def accuracy(run: Run, head: Head, split: str) -> dict[str, float]:
    store = FeatureStore.open(run.features(split))
    classes = ClassTable.load(run.path("classes.json"))
    right = head.logits(store.array()).argmax(1) == store.labels
    few = np.isin(store.labels, classes.few)
    return {"few": 100 * right[few].mean(), "overall": 100 * right.mean()}


def test_train__records_what_the_corrected_head_does_on_validation(run: Run) -> None:
    correction = train(options(run, rho=(0.5, 2.0)))
    head = Head.load(run.path(HEAD))
    measured = accuracy(run, correction.apply(head), "val")
    base = accuracy(run, head, "val")
    for name in ("few", "overall"):
        assert correction.chosen.to_dict()["val"][name] == pytest.approx(measured[name])
        assert correction.chosen.to_dict()["val_base"][name] == pytest.approx(base[name])
    assert correction.classes.tolist() == ClassTable.load(run.path("classes.json")).few.tolist()
    assert Correction.load(run.path(CORRECTION)).chosen == correction.chosen


def test_train__raises_few_split_accuracy_of_a_skewed_head(run: Run) -> None:
    correction = train(options(run, rho=(0.25,), seeds=3, epochs=25))
    head = Head.load(run.path(HEAD))
    assert accuracy(run, correction.apply(head), "test")["few"] > accuracy(run, head, "test")["few"]


def test_train__writes_a_line_an_epoch_of_each_trial(run: Run) -> None:
    train(options(run, rho=(0.5, 1.0)))
    lines = [json.loads(line) for line in run.path(METRICS).read_text().splitlines()]
    assert len(lines) == 2 * 2 * 6
    assert {"rho", "k", "seed", "epoch", "loss", "val_overall"} == set(lines[-1])


def test_train__the_mean_is_the_mean_of_the_rows(run: Run) -> None:
    correction = train(options(run, seeds=3))
    head = Head.load(run.path(HEAD))
    assert correction.trials is not None
    few = correction.classes
    rows = [correction.trials.rows(trial, head, few) for trial in range(3)]
    np.testing.assert_allclose(correction.rows, np.mean(rows, axis=0), rtol=1e-4, atol=1e-5)
    assert correction.chosen.to_dict()["ensemble"] == "mean"
    near = head.weight[Neighbours.load(run.path(NEIGHBORS)).ids]
    change = np.linalg.norm(correction.rows - head.weight[few], axis=1)
    assert (change <= np.linalg.norm(near, axis=2).max(1) + 1e-5).all()  # Eq. 3 holds still


def test_train__the_mean_of_random_neighbours_is_the_mean_of_the_rows(run: Run) -> None:
    correction = train(options(run, seeds=3, metric="random"))
    head = Head.load(run.path(HEAD))
    assert correction.trials is not None
    assert (correction.trials.neighbors[0] != correction.trials.neighbors[1]).any()
    rows = [correction.trials.rows(trial, head, correction.classes) for trial in range(3)]
    np.testing.assert_allclose(correction.rows, np.mean(rows, axis=0), rtol=1e-4, atol=1e-5)


def test_train__single_takes_the_best_trial(run: Run) -> None:
    correction = train(options(run, seeds=3, ensemble="single"))
    assert correction.trials is not None
    overall = [record.to_dict()["val"]["overall"] for record in correction.trials.records]
    assert correction.chosen.to_dict()["seeds"] == [int(np.argmax(overall))]


def test_train__constrained_keeps_the_limit_and_calibrates(run: Run) -> None:
    correction = train(options(run, select="constrained", max_overall_drop=1.0))
    chosen = correction.chosen.to_dict()
    assert chosen["val_base"]["overall"] - chosen["val"]["overall"] <= 1.0 + 1e-9
    assert chosen["offset"] != 0
    few = [point["few"] for point in chosen["curve"]]
    assert few == sorted(few)
    assert few[-1] > few[0]
    plain = train(
        options(run, overwrite=True, select="constrained", max_overall_drop=50.0, calibrate=False)
    )
    assert plain.chosen.to_dict()["offset"] == 0
    # The offset is in the biases: the saved head alone gives the measured accuracy.
    head = Head.load(run.path(HEAD))
    got = accuracy(run, correction.apply(head), "val")
    assert chosen["val"]["few"] == pytest.approx(got["few"])


def test_train__several_k(run: Run) -> None:
    correction = train(options(run, k=(3, 5), rho=(0.5,)))
    assert correction.trials is not None
    assert [record.k for record in correction.trials.records] == [3, 3, 5, 5]
    assert (correction.trials.alphas[:2, :, 3:] == 0).all()
    alone = train(options(run, k=(3,), overwrite=True))
    assert alone.trials is not None
    np.testing.assert_allclose(alone.trials.alphas, correction.trials.alphas[:2, :, :3], atol=1e-5)


def test_train__enough_data_are_trained_as_with_the_preset_paper(run: Run) -> None:
    # 45 samples in batches of 4 make 12 steps an epoch.
    default = train(options(run, batch_size=4, allow_worse=True))
    paper = train(options(run, batch_size=4, allow_worse=True, preset="paper", overwrite=True))
    np.testing.assert_array_equal(default.rows, paper.rows)
    np.testing.assert_array_equal(default.biases, paper.biases)


def test_train__paper_says_how_few_steps_it_makes(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    planned(options(run, preset="paper"))
    assert "only 6 steps: the schedule of the preset paper is for larger data" in caplog.text
    caplog.clear()
    planned(options(run))
    assert "steps: the schedule" not in caplog.text


def test_train__k_under_3_warns(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    train(options(run, k=(1, 3), seeds=1))
    assert "with k = 1 alpha can only be +1 or -1" in caplog.text
    assert "k = 3" not in caplog.text


def test_train__official_leaves_the_biases_alone(run: Run) -> None:
    assert train(options(run, preset="official", allow_worse=True)).biases is None


def test_train__a_head_without_bias_keeps_none(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", bias=False)
    assert train(options(run)).biases is None
    with pytest.raises(InputError, match="the head has no biases"):
        train(options(run, calibrate=True, overwrite=True))


def test_train__again_is_up_to_date_and_other_options_need_overwrite(run: Run) -> None:
    train(options(run))
    before = run.path(CORRECTION).read_bytes()
    train(options(run))
    assert run.path(CORRECTION).read_bytes() == before
    with pytest.raises(TargetExistsError, match="overwrite=True"):
        train(options(run, rho=(1.0,)))


def test_train__the_same_inputs_give_the_same_bytes_with_any_number_of_threads(
    tmp_path: Path,
) -> None:
    files = set()
    before = torch.get_num_threads()
    for name, threads in {"a": 1, "b": 1, "c": 2, "d": 3}.items():
        run = make_run(tmp_path / name)
        torch.set_num_threads(threads)
        try:
            train(options(run))
        finally:
            torch.set_num_threads(before)
        files.add(run.path(CORRECTION).read_bytes())
    assert len(files) == 1


@pytest.mark.parametrize("threads", [1, 2])
def test_train__a_seed_with_random_neighbours_is_alone_what_it_is_among_others(
    tmp_path: Path, threads: int
) -> None:
    more: dict[str, object] = {"metric": "random", "max_steps": 20}
    run = write_run(tmp_path / "run", make_problem(num_classes=24, width=2048, spread=20.0))
    find_neighbors(NeighborsOptions(run=run.folder))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        together = train(options(run, seeds=5, **more)).trials
        alone = train(options(run, seeds=1, seed=3, overwrite=True, **more)).trials
    finally:
        torch.set_num_threads(before)
    assert together is not None
    assert alone is not None
    expected = together.only(3)
    assert alone.records == expected.records
    assert np.array_equal(alone.neighbors, expected.neighbors)
    assert np.array_equal(alone.alphas, expected.alphas)
    assert np.array_equal(alone.biases, expected.biases)


def test_train__without_validation_keeps_the_last_epoch(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", splits=("train",))
    correction = train(options(run))
    assert correction.trials is not None
    assert {record.epoch for record in correction.trials.records} == {6}
    assert correction.chosen.to_dict()["val"] is None
    with pytest.raises(MissingStageError, match="holdout=0"):
        train(options(run, rho=(0.5, 1.0), overwrite=True))


def test_command__without_validation_says_what_can_be_measured_with(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", splits=("train",))
    words = ["train", "--run", str(run.folder), "--rho", "0.5", "--seeds", "1", "--epochs", "1"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0
    said = " ".join(done.stderr.split())
    assert "nothing was measured. Hold training features out with --holdout 0.2" in said
    extract = "alphafix extract --backbone SPEC --data SPEC"  # which this run does not say
    assert f"{extract} --val-fraction 0.2 --run {run.folder} --overwrite" in said


def test_command__of_features_of_ones_own_names_what_gives_validation_for_them(
    tmp_path: Path,
) -> None:
    """No `extract` where there are no images: features come in a file, as the others did."""
    made = make_run(tmp_path / "made")
    stores = {split: FeatureStore.open(made.features(split)) for split in ("train", "val")}
    for split, store in stores.items():
        np.savez(tmp_path / f"{split}.npz", features=store.array(), labels=store.labels)
    head = Head.load(made.path(HEAD))
    np.savez(tmp_path / "head.npz", weight=head.weight, bias=head.bias_or_zeros)
    run = ["--run", str(tmp_path / "run")]

    def call(*words: str) -> Result:
        return CliRunner().invoke(app, [*words, *run])

    files = ["--features", f"train={tmp_path}/train.npz", "--head", str(tmp_path / "head.npz")]
    assert call("neighbors", "-k", "3", *files).exit_code == 0
    lacking = [call("train", "--method", "few-bias"), call("train", "--rho", "0.5,1")]
    lacking += [call("compare", "--on", "val"), call("evaluate", "--on", "val")]
    said = [one.stderr for one in lacking]
    measured = call("train", "--seeds", "1", "--epochs", "1")
    assert measured.exit_code == 0
    for text in [*said[:3], measured.stderr]:
        words = " ".join(text.split())
        assert f"alphafix features import FILE --split val --run {tmp_path}/run" in words
        assert "alphafix extract" not in words
    typed = ["features", "import", str(tmp_path / "val.npz"), "--split", "val"]
    assert call(*typed).exit_code == 0
    assert call("train", "--method", "few-bias", "--allow-worse", "--overwrite").exit_code == 0


def test_train__holdout_is_stratified_and_not_trained_on(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", splits=("train",))
    correction = train(options(run, rho=(0.5, 1.0), holdout=0.2))
    assert correction.chosen.to_dict()["val"] is not None
    few = planned(options(run, holdout=0.2, rho=(500.0,), epochs=1, seeds=1))
    assert few.samples < 0.85 * len(FeatureStore.open(run.features("train")))


@pytest.mark.parametrize(
    "method", ["few-bias", "lda", pytest.param("auto", marks=pytest.mark.slow)]
)
def test_train__other_methods_choose_on_a_head_refitted_without_the_held_out_samples(
    tmp_path: Path, method: str
) -> None:
    run = make_run(tmp_path / "run", splits=("train",))
    with pytest.raises(MissingStageError, match=r"val_fraction=0.2(.|\n)*holdout=0.2"):
        train(options(run, method=method))
    own = {"method": method, "holdout": 0.25, "max_overall_drop": 40.0, "confidence": 0.5}
    with pytest.raises(InputError, match=r"cannot be chosen on held-out(.|\n)*holdout_head"):
        train(options(run, **own))
    found = train(options(run, **own, holdout_head="ce", allow_worse=True))
    assert found.kept_because is None
    chosen = found.chosen.to_dict()
    assert "refitted without them" in chosen["held_out"]
    # The base model of the figures is the refitted head, which the given one is not.
    given = given_in(run)
    held = hold_out(given.train, 0.25, seed=0)[1]
    right = given.head.logits(held.features().array()).argmax(axis=1) == held.labels
    assert chosen["val_base"]["overall"] != pytest.approx(100 * right.mean())
    assert found.curve is None
    if method == "few-bias":
        few = given.classes.few
        assert given.head.bias is not None
        assert found.biases == pytest.approx(given.head.bias[few] + chosen["offset"], rel=1e-5)


@pytest.mark.parametrize("select", ["overall", "constrained"])
def test_train__alphanet_is_chosen_on_a_refitted_head_and_made_for_the_given_one(
    tmp_path: Path, select: str
) -> None:
    run = make_run(tmp_path / "run", splits=("train",))
    more: dict[str, object] = {"rho": (0.1, 2.0), "seeds": 2, "holdout": 0.25}
    if select == "constrained":
        more |= {"select": select, "max_overall_drop": 40.0, "confidence": 0.5}
        with pytest.raises(InputError, match="holdout_head"):
            train(options(run, **more))
    found = train(options(run, **more, holdout_head="ridge", allow_worse=True))
    chosen, given = found.chosen, given_in(run)
    assert found.trials is not None
    epochs = {record.epoch for record in found.trials.records}
    assert len(epochs) == 1
    # The same setting by itself on the given head, from all training samples.
    alone = options(run, rho=(chosen.rho,), seeds=2, select="none", epochs=epochs.pop())
    alone = alone.model_copy(update={"first_epoch": 1})
    plain = correct("alphanet", given, settings_of(alone))
    assert (found.rows == plain.rows).all()
    assert found.biases is not None
    assert plain.biases is not None
    assert found.biases == pytest.approx(plain.biases + np.float32(chosen.offset), rel=1e-5)


def test_train__holdout_says_that_the_head_was_trained_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run(tmp_path / "run", splits=("train",))
    found = train(options(run, holdout=0.2))
    assert "samples that the head was trained on" in caplog.text
    assert "samples that the head was trained on" in found.chosen.to_dict()["held_out"]
    # Nor is a point of a trade-off offered that would be read off there.
    assert found.curve is None
    with pytest.raises(InputError):
        train(options(run, holdout=0.2, at="overall=-1", overwrite=True))


def test_train__without_a_choice_the_last_epoch_of_all_settings_is_kept(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", splits=("train",))
    found = train(options(run, rho=(0.5, 0.1, 2.0), select="none"))
    assert found.trials is not None
    assert {record.rho for record in found.trials.records} == {0.1, 0.5, 2.0}
    assert {record.epoch for record in found.trials.records} == {6}
    assert found.chosen.rho == 0.5
    # With validation features it is the same: they are not looked at.
    other = train(options(make_run(tmp_path / "other"), rho=(0.5, 0.1, 2.0), select="none"))
    assert (other.rows == found.rows).all()
    with pytest.raises(ValidationError, match="all others choose"):
        options(run, method="auto", select="none")


def test_train__without_neighbours_names_the_command(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", make_problem())
    with pytest.raises(MissingStageError, match="find_neighbors"):
        train(options(run))


def test_train__stale_neighbours_are_refused(run: Run) -> None:
    head = Head.load(run.path(HEAD))
    Head(head.weight * 2, head.bias).save(run.path(HEAD), overwrite=True)
    with pytest.raises(StaleInputError, match=r"find_neighbors\(overwrite=True\)"):
        train(options(run))
    assert not run.has(CORRECTION)


def test_train__k_of_all_base_classes_is_refused(run: Run) -> None:
    with pytest.raises(InputError, match="k = 18 of 18 other classes"):
        train(options(run, k=(18,)))


@pytest.mark.parametrize("limit", ["max_overall_drop", "max_base_drop", "max_class_drop"])
def test_options__a_limit_implies_the_choice_within_it(limit: str) -> None:
    found = TrainOptions.model_validate({limit: 1.0})
    asked = TrainOptions.model_validate({"select": "constrained", limit: 1.0})
    assert found == asked
    assert found.recorded() == asked.recorded()
    assert found.calibrated
    assert not TrainOptions.model_validate({limit: 1.0, "calibrate": False}).calibrated
    # Other methods choose within limits without a rule.
    other = TrainOptions.model_validate({"method": "lda", limit: 1.0})
    assert (other.select, TrainOptions.model_validate({limit: None}).select) == ("overall",) * 2


def test_train__with_a_limit_alone_is_what_the_rule_gives(run: Run) -> None:
    found = train(options(run, max_overall_drop=1.0))
    assert found.chosen.promise is not None
    assert found.chosen.promise["limits"]["max_overall_drop"] == 1.0
    asked = train(options(run, select="constrained", max_overall_drop=1.0))
    assert asked.provenance == found.provenance
    # By the command, too, for which all is up to date.
    arguments = ["--run", str(run.folder), "--seeds", "2", "--epochs", "6", "--hidden", "8,8"]
    said = CliRunner().invoke(app, ["train", *arguments, "--max-overall-drop", "1"])
    assert (said.exit_code, "is up to date" in said.stderr) == (0, True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"select": "constrained"}, "go together"),
        ({"select": "overall", "max_overall_drop": 1.0}, "not with .*select=overall"),
        ({"select": "none", "max_class_drop": 1.0}, "max_class_drop.* goes with "),
        ({"select": "few", "calibrate": True}, "no optimum"),
        ({"rho": (-1.0,)}, "greater than or equal to 0"),
        ({"rho": "0.5,x"}, "valid number"),
        ({"rho": "inf"}, "finite number"),
        ({"lr": float("inf")}, "finite number"),
        ({"memory": float("nan")}, "finite number"),
    ],
)
def test_options__that_do_not_fit_together(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainOptions.model_validate(given)


def test_plan__counts_steps_and_bytes_without_training(run: Run) -> None:
    found = planned(options(run, rho=(0.5, 1.0), seeds=3))
    # 6 few-split classes of 5 samples: 45 and 60 samples, one step a pass and 12 passes an epoch.
    assert (found.trials, found.steps) == (6, 6 * 6 * 12)
    assert planned(options(run, rho=(0.5, 1.0), seeds=3, preset="paper")).steps == 6 * 6
    assert all(size > 0 for size in found.bytes.values())
    assert not run.has(CORRECTION)


def test_train__a_small_memory_budget_gives_the_same(run: Run) -> None:
    table = train(options(run))
    recomputed = train(options(run, memory=1e-9, overwrite=True))
    np.testing.assert_allclose(recomputed.rows, table.rows, atol=1e-4)
    assert recomputed.chosen.to_dict()["val"] == table.chosen.to_dict()["val"]


# Both batches of it take about as long, so that after the first there is time to stop it.
SWEEP = ["train", "--run", "run", "--rho", "8,9", "--seeds", "20", "--epochs", "20"]


def swept(folder: Path) -> Result:
    """Train in the run directory of a folder."""
    with in_folder(folder):
        done = CliRunner().invoke(app, SWEEP)
    assert done.exit_code == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The result of a run that nothing stops."""
    run = make_run(tmp_path_factory.mktemp("unbroken") / "run")
    swept(run.folder.parent)
    return run.path(CORRECTION).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_train__killed_in_a_sweep_continues(
    run: Run, stop: signal.Signals, unbroken: bytes, tmp_path: Path
) -> None:
    """Each batch that was done is found again, and the result is that of an unbroken run."""
    process = start_alphafix(SWEEP, run.folder.parent, tmp_path / "told")
    deadline = time.monotonic() + 60
    while not list(run.path(UNFINISHED).glob("*.safetensors")):
        assert process.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert process.pid is not None
    os.kill(process.pid, stop)
    process.join()
    told = (tmp_path / "told/stderr").read_text()
    assert process.exitcode == (-9 if stop == signal.SIGKILL else 1), told
    assert not run.has(CORRECTION)
    done = len(list(run.path(UNFINISHED).glob("*.safetensors")))
    again = swept(run.folder.parent)
    assert again.stderr.count("finished trials found") == done
    assert run.path(CORRECTION).read_bytes() == unbroken
    assert not run.path(UNFINISHED).exists()


def test_train__tensorboard_has_the_history(run: Run, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "board"
    train(options(run, seeds=1, tensorboard=folder))
    events = EventAccumulator(str(folder / "rho-0.5-k-5-seed-0")).Reload()
    lines = [json.loads(line) for line in run.path(METRICS).read_text().splitlines()]
    shown = [event.value for event in events.Scalars("loss")]
    np.testing.assert_allclose(shown, [line["loss"] for line in lines], rtol=1e-6)


@pytest.mark.parametrize("method", ["few-bias", "tau-norm", "mean-directions"])
def test_train__other_methods_can_be_patched_too(run: Run, method: str) -> None:
    correction = train(options(run, method=method))
    assert correction.method == method
    head = Head.load(run.path(HEAD))
    assert Correction.load(run.path(CORRECTION)).apply(head).num_classes == head.num_classes
    assert correction.provenance["options"]["method"] == method


@pytest.mark.slow
def test_train__auto_takes_one_of_the_largest_gains_within_the_limit(run: Run) -> None:
    correction = train(options(run, method="auto", max_overall_drop=3.0))
    head = Head.load(run.path(HEAD))
    base, after = accuracy(run, head, "val"), accuracy(run, correction.apply(head), "val")
    assert base["overall"] - after["overall"] <= 3.0 + 1e-6
    auto = correction.chosen.to_dict()["auto"]
    worths = {one["method"]: one["worth"] for one in auto["tried"] if one["worth"] is not None}
    val = FeatureStore.open(run.features("val"))
    few = np.isin(val.labels, ClassTable.load(run.path("classes.json")).few)
    standard_error = 50 / np.sqrt(few.sum())
    assert worths[auto["method"]] >= max(worths.values()) - standard_error
    assert auto["few_gain"] == pytest.approx(after["few"] - base["few"], abs=1e-4)
    assert auto["promise"]["limits"]["confidence"] == 0.95
    assert "alphanet + few-bias" in {one["method"] for one in auto["tried"]}


def test_train__what_beats_nothing_is_the_base_model_unless_worse_is_allowed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    problem = make_problem(num_classes=24)
    # Validation on which the base model is right everywhere: its labels are its answers.
    problem.labels["val"] = problem.head.logits(problem.features["val"]).argmax(axis=1)
    run = write_run(tmp_path / "run", problem)
    find_neighbors(NeighborsOptions(run=run.folder))
    for method in ("alphanet", "few-bias"):
        with caplog.at_level("WARNING"):
            kept = train(options(run, method=method, overwrite=True))
        assert kept.is_base
        assert (kept.apply(problem.head).weight == problem.head.weight).all()
        assert (kept.apply(problem.head).bias_or_zeros == problem.head.bias_or_zeros).all()
        assert "the base model is kept: " in caplog.text
    worse = train(options(run, allow_worse=True, overwrite=True))
    assert not worse.is_base
    assert (worse.rows != problem.head.weight[worse.classes]).any()


@pytest.mark.parametrize("method", ["alphanet", "few-bias", "tau-norm", "lda"])
def test_train__at_moves_along_the_curve_without_training(
    run: Run, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(options(run, method=method, allow_worse=True))
    monkeypatch.setattr("alphafix.commands.train.work.correct", None)  # nothing may train again
    head, classes = Head.load(run.path(HEAD)), ClassTable.load(run.path("classes.json"))
    for point in ("few=60", "overall=-3", "t=0.6", "t=-0.35"):
        moved = train(options(run, method=method, allow_worse=True, at=point))
        measured, base = accuracy(run, moved.apply(head), "val"), accuracy(run, head, "val")
        assert moved.chosen.val is not None
        for name in ("few", "overall"):
            assert moved.chosen.val[name] == pytest.approx(measured[name], abs=1e-9)
        if point == "few=60":
            assert measured["few"] >= 60
        elif point == "overall=-3":
            assert measured["overall"] - base["overall"] >= -3 - 1e-9
        else:
            assert f"t={moved.chosen.offset}" == point
        assert Correction.load(run.path(CORRECTION)).chosen == moved.chosen
    again = train(TrainOptions(run=run.folder, at=f"t={first.chosen.offset}"))  # of what is there
    np.testing.assert_allclose(
        again.apply(head).bias_or_zeros, first.apply(head).bias_or_zeros, atol=1e-4
    )
    assert again.apply(head).weight[classes.base] == pytest.approx(
        first.apply(head).weight[classes.base]
    )


def test_train__at_in_vain(run: Run) -> None:
    with pytest.raises(ValidationError, match="few=PERCENT, overall=POINTS or t=NUMBER"):
        options(run, at="many=3")
    with pytest.raises(InputError, match="no offset reaches this overall change"):
        train(options(run, method="few-bias", at="overall=90"))
    assert not run.has(CORRECTION)
    train(options(run, method="few-bias"))
    with pytest.raises(TargetExistsError, match="overwrite"):
        train(options(run, method="tau-norm", at="few=50"))


def test_train__few_needs_few_split_samples_in_validation(tmp_path: Path) -> None:
    problem = make_problem(num_classes=24)
    keep = ~np.isin(problem.labels["val"], problem.classes.few)
    problem.features["val"] = problem.features["val"][keep]
    problem.labels["val"] = problem.labels["val"][keep]
    run = write_run(tmp_path / "run", problem)
    find_neighbors(NeighborsOptions(run=run.folder))
    with pytest.raises(InputError, match="no samples of few-split classes"):
        train(options(run, select="few"))
    assert train(options(run)).chosen.to_dict()["val"]["few"] is None


def test_train__a_holdout_of_another_seed_trains_anew(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", splits=("train",))
    keep = FinishedTrials(tmp_path / "kept", "the same data")

    def fitted(**more: object) -> Correction:
        settings = settings_of(options(run, holdout=0.2, **more))
        return fit(given_in(run), settings, keep=keep)

    fitted(seed=0, seeds=2)  # leaves its finished batch
    after = fitted(seed=1, seeds=1)
    keep.clear()
    clean = fitted(seed=1, seeds=1)
    np.testing.assert_array_equal(after.rows, clean.rows)


def test_train__equal_settings_count_once(run: Run) -> None:
    correction = train(options(run, rho="0.5,0.5", seeds=2))
    assert correction.trials is not None
    assert len(correction.trials) == 2


def test_train__an_unknown_method_lists_the_known_ones() -> None:
    with pytest.raises(ValidationError, match="one of alphanet, auto, few-bias"):
        TrainOptions(method="magic")


def test_correction__of_an_earlier_version_is_to_be_made_again(run: Run) -> None:
    train(options(run, allow_worse=True))
    path = run.path(CORRECTION)
    tensors, metadata = read_tensors(path)
    tensors.pop("curve_gaps")
    write_tensors(path, tensors, metadata, overwrite=True)
    with pytest.raises(FileFormatError, match="made by an earlier version") as raised:
        Correction.load(path)
    assert "alphafix.train(overwrite=True)" in str(raised.value)
    assert "damaged" not in str(raised.value)
