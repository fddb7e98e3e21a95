"""How long `alphafix train` takes as a whole process, on free cores and beside a busy one.

    python examples/benchmarks/train_process.py [--json] [--small] [--repeat 3]

The features have ImageNet-LT's size and are made here (1.1 GB); they are in the page cache when
they are read. The fastest of some runs counts. A process that does nothing but count is the busy
core.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from counts import positive
from train import Size, generate

from alphafix.features.writer import FeatureWriter
from alphafix.run.directory import CLASSES, CORRECTION, HEAD, Provenance, Run

SMALL = Size(classes=40, width=64, few=8, few_samples=64, train=2000, val=400)
ROWS = 8192


def write_run(folder: Path, size: Size) -> None:
    """Make a run directory with features, class table, head and neighbours."""
    problem, run = generate(size), Run(folder)
    made = Provenance(stage="benchmark", options={}, inputs={}).to_dict()
    for split, features, labels in (
        ("train", problem.train, problem.labels),
        ("val", problem.val, problem.val_labels),
    ):
        writer = FeatureWriter(
            run.features(split), num_classes=size.classes, dtype="float32", head=problem.head
        )
        for start in range(0, len(labels), ROWS):
            place = slice(start, start + ROWS)
            ids = [str(start + row) for row in range(len(labels[place]))]
            writer.add(features[place], labels[place], ids)
        writer.finish({"provenance": made, "skipped": 0})
    problem.classes.save(run.path(CLASSES))
    problem.head.save(run.path(HEAD), provenance=made)
    _alphafix("neighbors", "--run", str(folder))


def _alphafix(*arguments: str) -> None:
    command = [sys.executable, "-m", "alphafix", *arguments]
    subprocess.run(command, check=True, capture_output=True)


def seconds_of(run: Path, seeds: int, repeat: int) -> float:
    """The fastest of some runs of `alphafix train --rho 0.5`, each from its start."""
    found = []
    for _ in range(repeat):
        (run / CORRECTION).unlink(missing_ok=True)
        start = time.perf_counter()
        _alphafix("train", "--rho", "0.5", "--seeds", str(seeds), "--run", str(run))
        found.append(time.perf_counter() - start)
    return min(found)


@contextmanager
def busy_core() -> Iterator[None]:
    """A process beside that wants a core for itself."""
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        other.kill()
        other.wait()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--small", action="store_true", help="a size to try the script with")
    parser.add_argument("--repeat", type=positive, default=3)
    given = parser.parse_args()
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        write_run(run, SMALL if given.small else Size())
        for seeds, target in ((1, 4.5), (10, 15.0)):
            free = seconds_of(run, seeds, given.repeat)
            with busy_core():
                busy = seconds_of(run, seeds, given.repeat)
            what = f"alphafix train --rho 0.5 --seeds {seeds}"
            times = busy / free
            rows += [
                {"what": what, "value": free, "unit": "s", "target": target},
                {"what": "  beside a busy core", "value": times, "unit": "x", "target": 2.0},
            ]
    if given.json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        print(f"{row['what']:<42}{row['value']:7.2f} {row['unit']}  target {row['target']}")


if __name__ == "__main__":
    main()
