"""How fast `alphafix report` is, how large its page, and how fast a browser shows and steers it.

    python examples/benchmarks/report.py [--json]

The report is of ImageNet-LT's size (1,000 classes, 50,000 test samples of width 2,048, ten
trials), the page of iNaturalist's (8,142 classes, 24,426 samples). Features are random, in a
temporary folder of half a gigabyte; eight methods of a comparison are steered beside the
correction, as far as there is room for them. The page is opened in headless Chromium through
Selenium, and its slider moved through all it has.

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
from alphafix.features.store import FeatureStore
from alphafix.features.writer import FeatureWriter
from alphafix.files import write_tensors
from alphafix.metrics.accuracy import COLUMNS
from alphafix.metrics.alike import Alike
from alphafix.metrics.bootstrap import Resampling
from alphafix.metrics.comparison import BASE, Comparison, Method, Row
from alphafix.metrics.estimates import Estimate
from alphafix.metrics.limits import Limits
from alphafix.metrics.margins import Margins, Steered, steered_tensors
from alphafix.run.directory import (
    CLASSES,
    COMPARISON,
    CORRECTION,
    HEAD,
    NEIGHBORS,
    STEERED,
    Provenance,
    Run,
)
from alphafix.values.classes import ClassTable
from alphafix.values.correction import Chosen, Correction
from alphafix.values.head import Head
from alphafix.values.neighbors import Neighbours
from alphafix.values.trials import TrialRecord, Trials

SEEDS, K = 10, 5
REPORT_SECONDS, BROWSER_SECONDS, SLIDER_SECONDS, MEGABYTES = 30.0, 2.0, 0.05, 5.0

# Methods beside the correction, and points that the slider is moved to.
METHODS, POINTS = 8, 40

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
    _write_comparison(run, classes, provenance, rng)
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


def _write_comparison(
    run: Run, classes: ClassTable, provenance: dict[str, Any], rng: np.random.Generator
) -> None:
    """A comparison of random methods, with what the slider needs of them."""
    samples = len(FeatureStore.open(run.features("test")))

    def row(name: str, family: str) -> Row:
        few, overall = rng.uniform(40, 60, 2)
        figures = {
            tier: Estimate(x, x - 1, x + 1)
            for tier, x in zip(COLUMNS, [few, *[overall] * 3], strict=True)
        }
        return Row(Method(name, family, True, {}, {}), figures, figures)

    methods = [
        Steered(
            f"method {place}",
            Margins(
                rng.normal(1, 3, samples).astype(np.float32),
                rng.choice(classes.few, samples),
                rng.choice(classes.base, samples),
            ),
            train={"method": "lda"},
        )
        for place in range(METHODS)
    ]
    Comparison(
        classes=classes,
        on="test",
        samples=samples,
        limits=Limits(max_overall_drop=2.0),
        rows=(row(BASE, "base"), *(row(one.name, "simple") for one in methods)),
        verdict=("random methods",),
        resampling=Resampling(),
        curves={"few-bias": {"few": [50.0], "overall": [50.0]}},
        provenance=provenance,
    ).save(run.path(COMPARISON))
    write_tensors(run.path(STEERED), *steered_tensors(methods, provenance))


def report_seconds(run: Run) -> tuple[float, Path]:
    """Time of one report, and its page."""
    start = time.perf_counter()
    page = report(ReportOptions(run=run.folder), Watch()).page
    return time.perf_counter() - start, page


def browser_seconds(page: Path) -> tuple[float, float] | None:
    """How long it takes to load the page and draw it, and its slider to answer, at the most.

    The first is the median of some times; the second the longest of all points and methods until
    everything is in the document and laid out, each point at its best of three times, as
    other work on the machine counts for none.
    """
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
        loaded = statistics.median(_open(browser, page) for _ in range(OPENED))
        return loaded, max(_steer(browser))
    finally:
        browser.quit()


def _open(browser: Any, page: Path) -> float:
    browser.get("about:blank")  # so that nothing is asked of a page that is being left
    browser.get(page.as_uri())
    if not browser.execute_script("return document.querySelectorAll('#classes tbody tr').length"):
        raise RuntimeError("the page shows no classes")
    script = "const t = performance.getEntriesByType('navigation')[0]; return t.loadEventEnd / 1000"
    return float(browser.execute_script(script))


def _steer(browser: Any) -> list[float]:
    script = """
    const select = document.getElementById("method"), slider = document.getElementById("shift");
    const took = [];
    for (const option of select.options) {
      select.value = option.value;
      select.dispatchEvent(new Event("change"));
      for (let i = 0; i <= arguments[0]; i++) {
        slider.value = Number(slider.min) + (i / arguments[0]) * (slider.max - slider.min);
        took.push(Math.min(...[0, 1, 2].map(() => {
          const start = performance.now();
          slider.dispatchEvent(new Event("input"));
          document.body.getBoundingClientRect();
          return (performance.now() - start) / 1000;
        })));
      }
    }
    return took;
    """
    return [float(one) for one in browser.execute_script(script, POINTS)]


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
        large, heavy = report_seconds(write_run(Path(folder) / "imagenet-lt", IMAGENET_LT))
        heavy_megabytes = heavy.stat().st_size / 1e6
        many, page = report_seconds(write_run(Path(folder) / "inaturalist", INATURALIST))
        megabytes = page.stat().st_size / 1e6
        shown = browser_seconds(page)
    rows = [
        _row("report, 1,000 classes, 50,000 samples", large, "s", REPORT_SECONDS),
        _row("  its page, without images", heavy_megabytes, "MB", MEGABYTES),
        _row("report, 8,142 classes, 24,426 samples", many, "s", None),
        _row("  its page", megabytes, "MB", None),
    ]
    if shown is not None:
        rows.append(_row("  browser shows it", shown[0], "s", BROWSER_SECONDS))
        rows.append(_row("  slider answers", shown[1], "s", SLIDER_SECONDS))
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
