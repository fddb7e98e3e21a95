"""How fast `alphafix report` is, and how fast a browser shows its page.

    python examples/benchmarks/report.py [--json]

The report is of ImageNet-LT's size (1,000 classes, 50,000 test samples of width 2,048, ten
trials), the page of iNaturalist's (8,142 classes, 24,426 samples). Features are random, in a
temporary folder of half a gigabyte. The page is opened in headless Chromium through Selenium.

Which class is a neighbour of which is asked for 20,000 classes, and beside it in the way of
before, of a matrix of all pairs.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alphafix.commands.command import Watch
from alphafix.commands.report.options import ReportOptions
from alphafix.commands.report.work import work as report
from alphafix.features.writer import FeatureWriter
from alphafix.metrics.alike import Alike
from alphafix.run.directory import CLASSES, CORRECTION, HEAD, NEIGHBORS, Provenance, Run
from alphafix.values.classes import ClassTable
from alphafix.values.correction import Chosen, Correction
from alphafix.values.head import Head
from alphafix.values.neighbors import Neighbours
from alphafix.values.trials import TrialRecord, Trials

SEEDS, K = 10, 5
REPORT_SECONDS, BROWSER_SECONDS = 30.0, 2.0

# Classes whose matrix of pairs (400 MB) can still be held, and how much of it may be needed.
MANY, MEMORY_RATIO = 20_000, 0.05

# How often the page is opened; the median counts.
OPENED = 5


@dataclass(frozen=True)
class Size:
    """A long-tailed test set with as many samples in every class."""

    classes: int
    width: int
    samples_a_class: int


IMAGENET_LT = Size(classes=1000, width=2048, samples_a_class=50)
INATURALIST = Size(classes=8142, width=64, samples_a_class=3)


def write_run(folder: Path, size: Size, seed: int = 0) -> Run:
    """A run directory with random features, head, neighbours and a correction of ten trials."""
    rng = np.random.default_rng(seed)
    run = Run(folder)
    counts = np.maximum(1280 * np.exp(-5.5 * np.arange(size.classes) / size.classes), 5)
    classes = ClassTable(
        tuple(f"class number {i}" for i in range(size.classes)), counts.astype(np.int64)
    )
    classes.save(run.path(CLASSES))
    means = rng.standard_normal((size.classes, size.width), dtype=np.float32)
    head = Head(means / np.float32(size.width), np.log(counts / counts.sum()).astype(np.float32))
    head.save(run.path(HEAD))
    writer = FeatureWriter(run.features("test"), num_classes=size.classes)
    for start in range(0, size.classes, 100):
        labels = np.repeat(np.arange(start, min(start + 100, size.classes)), size.samples_a_class)
        noise = rng.standard_normal((len(labels), size.width), dtype=np.float32)
        writer.add(means[labels] + 4 * noise, labels, [f"{start}/{i}" for i in range(len(labels))])
    writer.finish({"split": "test"})
    _write_results(run, classes, head, means, rng)
    return run


def _write_results(
    run: Run, classes: ClassTable, head: Head, means: Any, rng: np.random.Generator
) -> None:
    few = classes.few
    provenance = Provenance("benchmark", {}, run.hashes(CLASSES, HEAD)).to_dict()
    ids = np.stack([rng.choice(classes.base, size=K, replace=False) for _ in few])
    distances = rng.random(ids.shape, dtype=np.float32)
    Neighbours(few, ids, distances, means, "euclidean", provenance).save(run.path(NEIGHBORS))
    alphas = rng.standard_normal((SEEDS, len(few), K), dtype=np.float32)
    alphas /= np.abs(alphas).sum(axis=2, keepdims=True)
    trials = Trials(
        records=tuple(TrialRecord(0.5, K, seed) for seed in range(SEEDS)),
        neighbors=np.broadcast_to(ids, alphas.shape).copy(),
        alphas=alphas,
        biases=np.zeros((SEEDS, len(few)), dtype=np.float32),
    )
    Correction(
        few,
        head.weight[few],
        head.bias_or_zeros[few] + np.float32(1),
        chosen=Chosen({"rho": 0.5, "k": K, "seeds": list(range(SEEDS))}),
        trials=trials,
        provenance=provenance,
    ).save(run.path(CORRECTION))


def report_seconds(run: Run) -> tuple[float, Path]:
    """Time of one report, and its page."""
    start = time.perf_counter()
    page = report(ReportOptions(run=run.folder), Watch()).page
    return time.perf_counter() - start, page


def browser_seconds(page: Path) -> float | None:
    """Median time from the start of loading until the page is loaded and its table drawn."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        return None
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options, service=Service(driver))
    try:
        return statistics.median(_open(browser, page) for _ in range(OPENED))
    finally:
        browser.quit()


def _open(browser: Any, page: Path) -> float:
    browser.get(page.as_uri())
    if not browser.execute_script("return document.querySelectorAll('#classes tbody tr').length"):
        raise RuntimeError("the page shows no classes")
    script = "const t = performance.getEntriesByType('navigation')[0]; return t.loadEventEnd / 1000"
    return float(browser.execute_script(script))


def likeness_rows() -> list[dict[str, Any]]:
    """Time and memory of neighbour pairs, kept as pairs and as the matrix that was kept before."""
    rng = np.random.default_rng(0)
    own = np.repeat(np.arange(MANY), K)
    near = rng.integers(0, MANY, len(own))
    labels, predicted = rng.integers(0, MANY, (2, 50_000))

    def as_pairs() -> Any:
        return Alike.of_pairs(own, near, MANY).holds(labels, predicted)

    def as_matrix() -> Any:
        matrix = np.zeros((MANY, MANY), dtype=np.bool_)
        matrix[own, near] = True
        return matrix[labels, predicted]

    if (as_pairs() != as_matrix()).any():
        raise RuntimeError("the pairs are not those of the matrix")
    (seconds, megabytes), (seconds_before, megabytes_before) = map(_cost, (as_pairs, as_matrix))
    what = f"neighbours of {MANY:,} classes"
    return [
        _row(f"{what}, memory", megabytes, "MB", None),
        _row("  of what it was", megabytes / megabytes_before, "x", MEMORY_RATIO),
        _row(f"{what}, time", seconds, "s", None),
        _row("  of what it was", seconds / seconds_before, "x", None),
    ]


def _cost(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds, and megabytes at the peak (taken apart, as watching memory takes time)."""
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return seconds, peak / 2**20


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        large, _ = report_seconds(write_run(Path(folder) / "imagenet-lt", IMAGENET_LT))
        many, page = report_seconds(write_run(Path(folder) / "inaturalist", INATURALIST))
        megabytes = page.stat().st_size / 2**20
        shown = browser_seconds(page)
    rows = [
        _row("report, 1,000 classes, 50,000 samples", large, "s", REPORT_SECONDS),
        _row("report, 8,142 classes, 24,426 samples", many, "s", None),
        _row("its page", megabytes, "MB", None),
    ]
    if shown is not None:
        rows.append(_row("browser shows it", shown, "s", BROWSER_SECONDS))
    rows += likeness_rows()
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        target = "" if row["target"] is None else f"  (target <= {row['target']}: {row['met']})"
        print(f"{row['what']:40} {row['value']:8.2f} {row['unit']}{target}")
    if shown is None:
        print("browser not measured: apt-get install chromium chromium-driver")


def _row(what: str, value: float, unit: str, target: float | None) -> dict[str, Any]:
    met = None if target is None else value <= target
    return {"what": what, "value": round(value, 3), "unit": unit, "target": target, "met": met}


if __name__ == "__main__":
    main()
