"""AlphaNet whose pool holds the class's own discriminant row: rows, files, commands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import alphafix
from alphafix.alphanet.fit import fit, train_trials
from alphafix.alphanet.given import Given
from alphafix.alphanet.measure import trial_accuracies
from alphafix.alphanet.neighbors import nearest_neighbours
from alphafix.alphanet.pool import WIDER_POOL
from alphafix.alphanet.settings import FitSettings
from alphafix.alphanet.sources import hold_out
from alphafix.alphanet.trial import Hyper
from alphafix.commands.app import app
from alphafix.commands.neighbors.options import NeighborsOptions
from alphafix.commands.report.options import ReportOptions
from alphafix.errors import FileFormatError
from alphafix.features.features import Features
from alphafix.files import read_tensors, write_tensors
from alphafix.run.directory import CORRECTION
from alphafix.values.arrays import FloatArray, FloatArray64
from alphafix.values.correction import Correction
from tests.common import make_problem, write_run
from tests.stages import find_neighbors, report

PROBLEM = make_problem(num_classes=16, spread=1.5)
WIDER = FitSettings(
    seeds=(0, 1, 2), hyper=Hyper(epochs=6, hidden=(8, 8)), device="cpu", pool=WIDER_POOL
)


def given(features: FloatArray = PROBLEM.features["train"]) -> Given:
    train = Features.of(features, PROBLEM.labels["train"])
    val = Features.of(PROBLEM.features["val"], PROBLEM.labels["val"])
    means = Features.of(PROBLEM.features["train"], PROBLEM.labels["train"]).class_means()
    near = nearest_neighbours(means, PROBLEM.classes, k=3)
    return Given(train, val, PROBLEM.head, PROBLEM.classes, near)


def own_rows(x: FloatArray64, y: np.ndarray) -> FloatArray64:
    """The discriminant rows of the few-split classes in plain NumPy."""
    means = np.stack([x[y == c].mean(axis=0) for c in range(16)])
    base = PROBLEM.classes.base
    covariance = np.mean([np.cov(x[y == c].T, bias=True) for c in base], axis=0)
    gamma = Features.of(x, y).within_class(base).shrinkage
    metric = (1 - gamma) * covariance * 8 / np.trace(covariance) + gamma * np.eye(8)
    rows = np.linalg.solve(metric, (means - means.mean(axis=0)).T).T[PROBLEM.classes.few]
    length = np.linalg.norm(PROBLEM.head.weight, axis=1).mean()
    return np.asarray(length * rows / np.linalg.norm(rows, axis=1, keepdims=True))


def test_trials__combine_neighbours_and_the_own_row_with_the_1_norm_1() -> None:
    trials = train_trials(given(), WIDER)
    assert trials.own is not None
    x, y = PROBLEM.features["train"].astype(np.float64), PROBLEM.labels["train"]
    assert trials.own.rows == pytest.approx(own_rows(x, y), abs=1e-4)
    assert trials.neighbors.shape == trials.alphas.shape == (3, 4, 3)
    norms = np.abs(trials.alphas).sum(axis=2) + np.abs(trials.own.alphas)
    assert norms == pytest.approx(np.ones((3, 4)), abs=1e-5)
    assert (np.abs(trials.own.alphas) > 0.01).any()
    head, few = PROBLEM.head, PROBLEM.classes.few
    for trial in range(3):
        rows = head.weight[few].astype(np.float64)
        rows += np.einsum("fk,fkd->fd", trials.alphas[trial], head.weight[trials.neighbors[trial]])
        rows += trials.own.alphas[trial][:, None] * trials.own.rows
        assert trials.rows(trial, head, few) == pytest.approx(rows, abs=1e-5)


def test_accuracy_of_trials__is_that_of_their_rows() -> None:
    trials, few = train_trials(given(), WIDER), PROBLEM.classes.few
    test = Features.of(PROBLEM.features["test"], PROBLEM.labels["test"])
    found = trial_accuracies(trials, PROBLEM.head, PROBLEM.classes, test)
    for trial, accuracy in enumerate(found):
        rows = trials.rows(trial, PROBLEM.head, few)
        head = PROBLEM.head.with_rows(few, rows, trials.biases[trial])
        right = head.predict(test.array()) == test.labels
        assert accuracy["overall"] == pytest.approx(100 * right.mean())


def test_fit__correction_is_the_mean_of_the_rows_and_says_its_pool(tmp_path: Path) -> None:
    found = fit(given(), replace(WIDER, allow_worse=True))
    assert found.trials is not None
    rows = [found.trials.rows(i, PROBLEM.head, found.classes) for i in range(3)]
    assert found.rows == pytest.approx(np.mean(rows, axis=0), abs=1e-5)
    val = found.apply(PROBLEM.head).predict(PROBLEM.features["val"]) == PROBLEM.labels["val"]
    assert found.chosen.val is not None
    assert found.chosen.val["overall"] == pytest.approx(100 * val.mean())
    assert found.chosen.settings["pool"] == WIDER_POOL
    path = tmp_path / "correction.safetensors"
    found.save(path)
    again = Correction.load(path)
    assert again.trials is not None
    assert again.trials.own is not None
    assert (again.trials.rows(1, PROBLEM.head, found.classes) == rows[1]).all()
    tensors, metadata = read_tensors(path)
    del tensors["trial_own_alphas"]
    write_tensors(path, tensors, metadata, overwrite=True)
    with pytest.raises(FileFormatError):
        Correction.load(path)


def test_fit__the_papers_pool_is_untouched() -> None:
    paper = fit(given(), replace(WIDER, pool="neighbors", allow_worse=True))
    assert paper.trials is not None
    assert paper.trials.own is None
    assert "pool" not in paper.chosen.settings


def test_fit__held_out_samples_make_no_row() -> None:
    held = replace(WIDER, holdout=0.4)
    trials = train_trials(given(), held)
    x = given().train.array().copy()
    _, validation = hold_out(given().train, 0.4, seed=0)
    x[validation.index] += 100.0
    other = train_trials(given(x), held)
    assert trials.own is not None
    assert other.own is not None
    assert (trials.own.rows == other.own.rows).all()


def test_fit__memory_budget_and_several_k_give_the_same() -> None:
    two = replace(WIDER, ks=(2, 3))
    plain, small = (
        train_trials(given(), s) for s in (two, replace(two, memory=1))
    )  # without memory scores are computed again
    assert plain.own is not None
    assert small.own is not None
    assert small.own.alphas == pytest.approx(plain.own.alphas, abs=1e-4)
    assert plain.largest_k().own is not None
    alone = train_trials(given(), replace(WIDER, ks=(2,)))
    assert alone.own is not None
    assert alone.own.alphas == pytest.approx(plain.own.alphas[:3], abs=1e-5)


def test_command__train_report_and_auto(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", PROBLEM)
    find_neighbors(NeighborsOptions(run=run.folder, k=3))
    line = ["train", "--run", str(run.folder), "--seeds", "2", "--epochs", "6", "--allow-worse"]
    done = CliRunner().invoke(app, [*line, "--pool", WIDER_POOL])
    assert done.exit_code == 0, done.output
    found = Correction.load(run.path(CORRECTION))
    assert found.chosen.settings["pool"] == WIDER_POOL
    page = report(ReportOptions(run=run.folder, bootstraps=100))
    assert "[own discriminant]" in page.read_text()
    refused = CliRunner().invoke(app, [*line])
    assert refused.exit_code == 1
    assert "options.pool" in refused.stderr
    done = CliRunner().invoke(
        app, [*line, "--overwrite", "--method", "auto", "--max-overall-drop", "3"]
    )
    assert done.exit_code == 0, done.output
    auto = Correction.load(run.path(CORRECTION)).chosen.auto
    assert auto is not None
    assert {"alphanet + few-bias", "alphanet-lda + few-bias"} <= {
        one["method"] for one in auto["tried"]
    }


def test_api__pool() -> None:
    few = PROBLEM.classes.few
    found = alphafix.train(
        Features.of(PROBLEM.features["train"], PROBLEM.labels["train"]),
        PROBLEM.head,
        val=Features.of(PROBLEM.features["val"], PROBLEM.labels["val"]),
        pool=WIDER_POOL,
        seeds=2,
        epochs=6,
        allow_worse=True,
    )
    assert found.classes.tolist() == few.tolist()
    assert found.trials is not None
    assert found.trials.own is not None
