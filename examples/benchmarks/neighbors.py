"""Class statistics and neighbours at the size of MS1M-LT: C = 74,500, D = 512.

    python examples/benchmarks/neighbors.py [--json] [--samples 887500]

The features are drawn batch by batch and go through the same writer as an extraction's; the
targets are for statistics and neighbours together, the drawing not counted.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from counts import positive

from alphafix.alphanet.neighbors import nearest_neighbours
from alphafix.features.sums import ClassSums
from alphafix.features.writer import FeatureWriter
from alphafix.values.arrays import IntArray
from alphafix.values.classes import ClassTable

CLASSES, WIDTH, BATCH = 74_500, 512, 16_384


def peak_gibibytes() -> float:
    """The largest resident memory of this process (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20


def long_tailed_counts(samples: int, rng: np.random.Generator) -> IntArray:
    """Pareto counts, at least 1 a class, that add up to about ``samples``."""
    weights = rng.pareto(1.2, CLASSES) + 0.5
    return np.asarray(np.maximum(1, weights * samples / weights.sum()), dtype=np.int64)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--samples", type=positive, default=887_500)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(CLASSES), long_tailed_counts(given.samples, rng)))
    centers = rng.standard_normal((CLASSES, WIDTH), dtype=np.float32)
    sums, seconds = ClassSums(CLASSES, WIDTH), 0.0
    with tempfile.TemporaryDirectory() as folder:
        writer = FeatureWriter(Path(folder), num_classes=CLASSES, dtype="float16")
        for start in range(0, len(labels), BATCH):
            y = labels[start : start + BATCH]
            x = centers[y] + rng.standard_normal((len(y), WIDTH), dtype=np.float32)
            before = time.perf_counter()
            sums.add(x, y)
            seconds += time.perf_counter() - before
            if start == 0:  # enough for the store that the means are read from
                writer.add(x, y, [str(i) for i in range(len(y))])
        del centers
        store = writer.finish()
        del writer
        before = time.perf_counter()
        store.class_means()
        seconds += time.perf_counter() - before
    statistics = seconds
    counts = np.bincount(labels, minlength=CLASSES)
    classes = ClassTable(tuple(map(str, range(CLASSES))), counts)
    before = time.perf_counter()
    means = np.divide(sums.sums, sums.counts[:, None], out=sums.sums)
    nearest_neighbours(means, classes, k=5)
    search = time.perf_counter() - before
    total, memory = statistics + search, peak_gibibytes()
    rows = [
        ("class statistics", statistics, "s", None, None),
        (f"neighbours, {len(classes.few):,} of {len(classes.base):,}", search, "s", None, None),
        ("both", total, "s", 60, total <= 60),
        ("peak memory", memory, "GiB", 2, memory <= 2),
    ]
    if given.json:
        names = ("what", "value", "unit", "target", "met")
        print(json.dumps([dict(zip(names, row, strict=True)) for row in rows], indent=2))
        return
    for what, value, unit, target, met in rows:
        verdict = "" if met is None else f"<= {target} {'met' if met else 'MISSED'}"
        print(f"{what:34} {value:8.2f} {unit:4} {verdict}")


if __name__ == "__main__":
    main()
