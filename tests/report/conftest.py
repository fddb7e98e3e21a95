"""A report of a real run, made once, and a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alphafix.commands.compare.options import CompareOptions
from alphafix.commands.neighbors.options import NeighborsOptions
from alphafix.commands.report.options import ReportOptions
from alphafix.commands.train.options import TrainOptions
from alphafix.run.directory import Run
from tests.common import write_run
from tests.report.problems import evil_problem
from tests.stages import compare, find_neighbors, report, train


def _make(folder: Path) -> None:
    """A run with images, AlphaNet, a comparison, and its page."""
    problem = evil_problem()
    count = len(problem.labels["test"])
    images = np.random.default_rng(0).integers(0, 255, (count, 16, 16), dtype=np.uint8)
    # The run is renamed when it is whole, its images stay where they are.
    data = folder.parent / f"{folder.name}-images.npz"
    np.savez(data, images=images, labels=problem.labels["test"])
    run = write_run(folder / "run", problem, data=str(data))
    find_neighbors(NeighborsOptions(run=run.folder, k=3))
    train(TrainOptions(run=run.folder, seeds=2, rho=(0.5, 1.0), epochs=6))
    options = CompareOptions(
        run=run.folder, methods=("few-bias", "lda"), rho=(0.5,), seeds=2, k=(2, 3), on_top=False
    )
    compare(options)
    report(ReportOptions(run=run.folder, bootstraps=100))


@pytest.fixture(scope="session")
def run(made_once: Callable[[str, Callable[[Path], None]], Path]) -> Run:
    return Run(made_once("report", _make) / "run")


@pytest.fixture(scope="session")
def page(run: Run) -> Path:
    return run.path("report") / "index.html"


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium that keeps the console's messages."""
    binary = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("needs Chromium: apt-get install chromium chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    made = webdriver.Chrome(options=options, service=Service(driver))
    yield made
    made.quit()
