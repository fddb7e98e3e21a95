"""Figures over all trials, against each trial's own head."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
import pytest

from alphafix.alphanet.measure import trial_predictions
from alphafix.commands.evaluate.options import EvaluateOptions
from alphafix.commands.evaluate.work import measure
from alphafix.commands.neighbors.options import NeighborsOptions
from alphafix.commands.train.options import TrainOptions
from alphafix.openset.evaluating import Evaluated
from alphafix.report.analysis import neighbour_pools
from alphafix.report.collect import Evidence, pictures
from alphafix.report.over_trials import Runs, mean_over_trials, over_trials
from alphafix.report.pictures import Picture
from alphafix.run.directory import NEIGHBORS, Run
from alphafix.values.correction import Correction
from alphafix.values.neighbors import Neighbours
from tests.common import make_problem, write_run
from tests.stages import find_neighbors, train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = write_run(tmp_path_factory.mktemp("trials") / "run", make_problem(spread=1.5))
    find_neighbors(NeighborsOptions(run=run.folder, k=3))
    train(
        TrainOptions(run=run.folder, seeds=3, rho=(0.5, 1.0), k=(2, 3), epochs=6, allow_worse=True)
    )
    return run


@pytest.fixture(scope="module")
def found(run: Run) -> Evaluated:
    return measure(EvaluateOptions(run=run.folder, bootstraps=100))


def drawn(run: Run, found: Evaluated) -> dict[str, Picture]:
    means = Neighbours.load(run.path(NEIGHBORS)).means
    pools = neighbour_pools(means, found.evaluation.classes, 3)
    return {one.name: one for one in over_trials(found, pools)}


def data(picture: Picture) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(picture.csv())))


def own_predictions(found: Evaluated) -> np.ndarray:
    """Each trial's whole head on the features, T x N."""
    trials, classes = found.correction.trials, found.evaluation.classes
    assert trials is not None
    x = found.store.array()
    rows = [trials.rows(t, found.head, classes.few) for t in range(len(trials))]
    return np.stack(
        [
            Correction(classes.few, row, biases, "alphanet").apply(found.head).logits(x).argmax(1)
            for row, biases in zip(rows, trials.biases, strict=True)
        ]
    )


def test_predictions__are_those_of_each_trials_whole_head(found: Evaluated) -> None:
    trials, classes = found.correction.trials, found.evaluation.classes
    assert trials is not None
    assert len(trials) == 12
    predicted = trial_predictions(trials, found.head, classes, found.store)
    assert (predicted == own_predictions(found)).mean() > 0.999  # sums in another order


def test_runs__are_the_trials_of_the_chosen_setting(found: Evaluated) -> None:
    runs = Runs.of(found)
    assert runs is not None
    assert (runs.rho, runs.k) == (found.correction.chosen.rho, found.correction.chosen.k)
    assert len(runs) == 3
    assert len({one.tobytes() for one in runs.predicted}) > 1


def test_flows__are_summed_over_the_trials(run: Run, found: Evaluated) -> None:
    """Figure 5: "the counts are aggregated from 10 different runs"."""
    rows = data(drawn(run, found)["runs-flows-all-all"])
    runs, labels = Runs.of(found), found.both.labels
    assert runs is not None
    assert sum(int(row["samples"]) for row in rows) == 3 * len(labels)
    kept = sum(int(row["samples"]) for row in rows if row["after"] == "correct")
    assert kept == (runs.predicted == labels).sum()
    share = sum(float(row["mean_percent"]) for row in rows if row["after"] == "correct")
    assert share == pytest.approx(100 * kept / (3 * len(labels)))
    assert all(float(r["low"]) <= float(r["mean_percent"]) <= float(r["high"]) for r in rows)


def test_accuracy_against_distance__is_alphanets(run: Run, found: Evaluated) -> None:
    """Figures A10 to A12 show what AlphaNet gets right, not the base head."""
    figures, labels = drawn(run, found), found.both.labels
    runs = Runs.of(found)
    assert runs is not None
    rows = data(figures["runs-accuracy-distance-all-all"])
    assert len(rows) == len(found.evaluation.classes)
    for row in rows:
        mine = labels == int(row["class"])
        mean = 100 * (runs.predicted[:, mine] == labels[mine]).mean()
        assert float(row["accuracy of AlphaNet in %"]) == pytest.approx(mean)
    base = found.evaluation.by_class.base_accuracy
    for row in data(figures["runs-change-distance-few-base"]):
        mine = labels == int(row["class"])
        mean = 100 * (runs.predicted[:, mine] == labels[mine]).mean()
        assert float(row["change in points"]) == pytest.approx(mean - base[int(row["class"])])


def test_class_change__is_in_the_order_of_training_samples(run: Run, found: Evaluated) -> None:
    picture = drawn(run, found)["runs-class-change"]
    counts = found.evaluation.classes.counts
    order = [counts[int(row["class"])] for row in data(picture) if row["split"] == "few"]
    assert order == sorted(order)
    assert "A3-A9" in picture.caption
    assert "3 trials" in picture.caption


def test_figures__are_none_where_there_is_one_trial(run: Run, found: Evaluated) -> None:
    trials = found.correction.trials
    assert trials is not None
    alone = replace(found, correction=replace(found.correction, trials=trials.only(0)))
    assert drawn(run, alone) == {}
    without = replace(found, correction=replace(found.correction, trials=None))
    assert drawn(run, without) == {}


def test_alphas__a_panel_for_each_k_and_for_each_rho(run: Run, found: Evaluated) -> None:
    """Figures A2 and A13 to A15."""
    evidence = Evidence(found, Neighbours.load(run.path(NEIGHBORS)))
    figures = {one.name: one for one in pictures(evidence)}
    by_k, by_rho = data(figures["alphas"]), data(figures["alphas-rho"])
    assert {row["panel"] for row in by_k} == {"2 neighbours", "3 neighbours"}
    assert {row["rank"] for row in by_k if row["panel"] == "2 neighbours"} == {"1", "2"}
    assert {row["panel"] for row in by_rho} == {"rho 0.5", "rho 1"}
    for panel in ("2 neighbours", "3 neighbours"):
        density = [float(r["density"]) for r in by_k if r["panel"] == panel and r["rank"] == "2"]
        assert sum(density) * 2 / len(density) == pytest.approx(1)


def test_mean__and_its_interval_over_trials() -> None:
    values = np.array([[1.0, 5.0], [3.0, 5.0], [5.0, 5.0]])
    mean, low, high = mean_over_trials(values)
    assert mean.tolist() == [3, 5]
    assert low[1] == high[1] == 5
    # Of 27 equally likely draws one is all 1s: 2.5% lies among means of up to 5/3.
    assert low[0] == pytest.approx(5 / 3, abs=0.7)
    assert high[0] == pytest.approx(13 / 3, abs=0.7)
