"""Training at the size of MS1M-LT: does it run within 20 GB of memory, and at what rate?

    python examples/benchmarks/train_large.py [--steps 5] [--json]

C = 74,500 classes, D = 512, F = 50,000 few-split classes, N = 887,500 training samples. The
features are drawn into a real feature store (float16, about 0.9 GB on disk); neighbours are
random, for their search has a benchmark of its own. Then `alphafix train --max-steps` runs in
a process of its own, with no validation data.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from counts import positive

from alphafix.alphanet.neighbors import random_neighbours
from alphafix.features.writer import FeatureWriter
from alphafix.run.directory import CLASSES, HEAD, NEIGHBORS, Provenance, Run
from alphafix.values.classes import ClassTable
from alphafix.values.head import Head
from alphafix.values.neighbors import Neighbours

NUM_CLASSES, WIDTH, FEW, SAMPLES, BATCH = 74_500, 512, 50_000, 887_500, 8192


def write_run(folder: Path) -> None:
    """Write classes, head, features and neighbours as the stages before would."""
    rng = np.random.default_rng(0)
    run, base = Run(folder), NUM_CLASSES - FEW
    counts = np.r_[np.zeros(base, dtype=np.int64), rng.integers(2, 9, FEW)]
    counts[:base] = (SAMPLES - counts.sum()) // base
    labels = rng.permutation(np.repeat(np.arange(NUM_CLASSES), counts))
    centers = rng.standard_normal((NUM_CLASSES, WIDTH), dtype=np.float32)
    writer = FeatureWriter(run.features("train"), num_classes=NUM_CLASSES, dtype="float16")
    for start in range(0, len(labels), BATCH):
        y = labels[start : start + BATCH]
        x = centers[y] + rng.standard_normal((len(y), WIDTH), dtype=np.float32)
        writer.add(x, y, [str(start + i) for i in range(len(y))])
    made = Provenance(stage="benchmark", options={}, inputs={}).to_dict()
    writer.finish({"provenance": made})
    classes = ClassTable(tuple(map(str, range(NUM_CLASSES))), counts)
    classes.save(run.path(CLASSES))
    Head(np.asarray(centers / 8, dtype=np.float32), np.zeros(NUM_CLASSES, np.float32)).save(
        run.path(HEAD), provenance=made
    )
    ids = random_neighbours(classes, k=5, seed=0)
    inputs = run.hashes(CLASSES, HEAD, run.manifest("train"))
    Neighbours(
        classes.few,
        ids,
        np.zeros(ids.shape, np.float32),
        centers,
        "euclidean",
        Provenance(stage="benchmark", options={}, inputs=inputs).to_dict(),
    ).save(run.path(NEIGHBORS))


def train(folder: Path, *more: str) -> tuple[float, float]:
    """Seconds and peak memory (GB) of `alphafix train` with one seed."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "alphafix", "train", "--run", str(folder), "--seeds", "1"]
    process = subprocess.Popen([*command, "--overwrite", *more], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit("alphafix train failed")
    return time.perf_counter() - start, usage.ru_maxrss * 1024 / 1e9


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=positive, default=5)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        # In a process of its own, so that what is measured starts small.
        code = "import sys, train_large as b; b.write_run(b.Path(sys.argv[1]))"
        here = Path(__file__).parent
        subprocess.run([sys.executable, "-c", code, str(folder)], cwd=here, check=True)
        one, _ = train(folder, "--max-steps", "1")
        some, memory = train(folder, "--max-steps", str(1 + given.steps))
    rows = [
        ("peak memory", memory, "GB", 20, memory <= 20),
        ("a step", (some - one) / given.steps, "s", None, None),
        ("everything but the steps", one, "s", None, None),
    ]
    if given.json:
        names = ("what", "value", "unit", "target", "met")
        print(json.dumps([dict(zip(names, row, strict=True)) for row in rows], indent=2))
        return
    for what, value, unit, target, met in rows:
        verdict = "" if met is None else f"<= {target} {'met' if met else 'MISSED'}"
        print(f"{what:26} {value:8.2f} {unit:3} {verdict}")


if __name__ == "__main__":
    main()
