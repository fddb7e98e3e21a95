"""A page of samples that leave out a whole split of the classes: without a warning, which fails."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alphafix.commands.command import Watch
from alphafix.commands.features.options import ImportOptions
from alphafix.commands.features.work import import_work
from alphafix.commands.neighbors.options import NeighborsOptions
from alphafix.commands.report.options import ReportOptions
from alphafix.commands.report.work import work
from alphafix.commands.train.options import TrainOptions
from alphafix.features.store import FeatureStore
from alphafix.run.directory import CLASSES, Run
from alphafix.values.classes import ClassTable
from tests.common import make_problem, write_run
from tests.stages import find_neighbors, train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A correction, and features to report on."""
    made = write_run(tmp_path_factory.mktemp("tiers") / "run", make_problem(num_classes=16))
    find_neighbors(NeighborsOptions(run=made.folder, k=3))
    train(TrainOptions(run=made.folder, method="few-bias", allow_worse=True))
    return made


@pytest.mark.slow
@pytest.mark.parametrize("left", ["few", "base", "many"])
def test_report__of_samples_of_one_split_alone(run: Run, left: str, tmp_path: Path) -> None:
    classes = ClassTable.load(run.path(CLASSES))
    store = FeatureStore.open(run.features("val"))  # which stays: it was chosen on
    mine = np.isin(store.labels, classes.tier(left))
    file = tmp_path / "test.npz"
    np.savez(file, features=store.array()[mine], labels=store.labels[mine])
    import_work(ImportOptions(run=run.folder, file=file, split="test", overwrite=True), Watch())
    options = ReportOptions(run=run.folder, output=tmp_path / "page", bootstraps=100)
    page = work(options, Watch()).page
    figures = {path.stem for path in (page.parent / "figures").glob("*.svg")}
    assert ("accuracy-distance-few-base" in figures) == (left == "few")
    assert "accuracy-distance-all-all" in figures
