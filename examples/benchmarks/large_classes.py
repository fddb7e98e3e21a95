"""Every stage at a large number of classes: its time and memory against C and N.

    nice python examples/benchmarks/large_classes.py --json
    python examples/benchmarks/large_classes.py --classes 10000 74500 1000000

Random features of D = 256 in a real store (float16), a tenth of the classes few-split (one or
two samples, the others four), an eighth as many validation and test samples as classes, at most
4,000 of each. Then the commands, each in a process of its own: class table, class means and
neighbours (`neighbors`, exact search), five steps of training, `evaluate`, `report` within its
page's budget. A last row of the least C and twice the samples shows what depends on N.
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
from typing import Any

import numpy as np
from counts import above_zero, positive

from alphafix.features.writer import FeatureWriter
from alphafix.files import sha256_file
from alphafix.run.directory import CLASSES, HEAD, Provenance, Run
from alphafix.values.classes import ClassTable, Thresholds
from alphafix.values.head import Head

WIDTH, BATCH, HELD_OUT = 256, 8192, 4000

STAGES = {
    "neighbors": ["neighbors", "-k", "5"],
    "train, 5 steps": ["train", "--rho", "0.5", "--seeds", "1", "--max-steps", "5"],
    "evaluate": ["evaluate", "--bootstraps", "100"],
    "report": ["report", "--bootstraps", "100"],
}


def write_run(folder: Path, num_classes: int, factor: int = 1) -> int:
    """Write classes, head and features as `extract` would; return the number of samples."""
    rng = np.random.default_rng(0)
    run, few = Run(folder), num_classes // 10
    counts = np.full(num_classes, 4 * factor, dtype=np.int64)
    rare = rng.choice(num_classes, few, replace=False)
    counts[rare] = rng.integers(1, 3, few)
    centers = rng.standard_normal((num_classes, WIDTH), dtype=np.float32)
    made = Provenance(stage="benchmark", options={}, inputs={}).to_dict()
    head = Head(np.asarray(centers / 8, dtype=np.float32), np.zeros(num_classes, np.float32))
    labels = {"train": rng.permutation(np.repeat(np.arange(num_classes), counts))}
    for split in ("val", "test"):
        half = min(HELD_OUT, num_classes // 8) // 2
        labels[split] = np.r_[rng.choice(rare, half), rng.integers(0, num_classes, half)]
    for split, own in labels.items():
        # Hits of training samples would take N x C products, and nothing here needs them.
        counted = None if split == "train" else head
        writer = FeatureWriter(
            run.features(split), num_classes=num_classes, dtype="float16", head=counted
        )
        for start in range(0, len(own), BATCH):
            y = own[start : start + BATCH]
            x = centers[y] + rng.standard_normal((len(y), WIDTH), dtype=np.float32)
            writer.add(x, y, [str(start + i) for i in range(len(y))])
        writer.finish({"provenance": made, "skipped": 0})
    names = tuple(f"class {i:07d}" for i in range(num_classes))
    ClassTable(names, counts, Thresholds(few=3, many=100)).save(run.path(CLASSES))
    head.save(run.path(HEAD), provenance=made)
    return len(labels["train"])


def measured(words: list[str], run: Path, limit: float) -> dict[str, Any]:
    """Seconds, processor time and peak memory of a command in a process of its own."""
    command = [sys.executable, "-m", "alphafix", *words, "--run", str(run)]
    with tempfile.TemporaryFile() as said:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=said, stderr=said)
        while True:
            done, status, used = os.wait4(process.pid, os.WNOHANG)
            seconds = time.perf_counter() - start
            if done:
                break
            if seconds > limit:
                process.kill()
                os.waitpid(process.pid, 0)
                return {"failed": f"not done in {limit:.0f} s"}
            time.sleep(0.05)
        said.seek(0)
        text = said.read().decode(errors="replace")
    if status:
        return {"failed": text.strip()[-300:]}
    return {
        "seconds": round(seconds, 2),
        "processor": round(used.ru_utime + used.ru_stime, 2),
        "GiB": round(used.ru_maxrss / 2**20, 3),
        "said": [line for line in text.splitlines() if "exact search" in line],
    }


def stages_of(num_classes: int, factor: int, limit: float, place: Path | None) -> dict[str, Any]:
    """Every stage at one size."""
    with tempfile.TemporaryDirectory(dir=place) as made:
        run = Path(made) / "run"
        start = time.perf_counter()
        samples = write_run(run, num_classes, factor)
        found: dict[str, Any] = {"classes": num_classes, "samples": samples, "stages": {}}
        found["writing the features"] = round(time.perf_counter() - start, 2)
        for name, words in STAGES.items():
            found["stages"][name] = stage = measured(words, run, limit)
            print(f"C {num_classes:,}: {name}: {stage}", file=sys.stderr)
            if "failed" in stage:
                break
        page = run / "report" / "index.html"
        if page.is_file():
            found["page MB"] = round(page.stat().st_size / 1e6, 2)
            sha256_file(page)
        return found


def exponents(rows: list[dict[str, Any]]) -> dict[str, float]:
    """How processor time grows from the second largest C to the largest: time ~ C ** exponent."""
    rows = sorted((row for row in rows if row.get("factor", 1) == 1), key=lambda r: r["classes"])
    if len(rows) < 2:
        return {}
    small, large = rows[-2:]
    ratio = np.log(large["classes"] / small["classes"])
    return {
        name: round(float(np.log(stage["processor"] / before["processor"]) / ratio), 2)
        for name, stage in large["stages"].items()
        if "processor" in stage and "processor" in (before := small["stages"].get(name, {}))
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--classes", type=positive, nargs="+", default=[10_000, 74_500])
    parser.add_argument("--limit", type=above_zero, default=900, help="seconds a command")
    parser.add_argument("--folder", type=Path, help="where the features are written")
    parser.add_argument("--no-samples", action="store_true", help="leave out twice the samples")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = [stages_of(count, 1, given.limit, given.folder) for count in given.classes]
    if not given.no_samples:
        least = min(given.classes)
        rows.append({**stages_of(least, 2, given.limit, given.folder), "factor": 2})
    grown = exponents(rows)
    if given.json:
        print(json.dumps({"rows": rows, "exponent of C": grown}, indent=2))
        return
    print(f"{'C':>10}{'N':>12}  {'':<16}{'seconds':>9}{'processor':>11}{'GiB':>8}")
    for row in rows:
        for name, stage in row["stages"].items():
            told = stage.get("failed") or (
                f"{stage['seconds']:>9.1f}{stage['processor']:>11.1f}{stage['GiB']:>8.2f}"
            )
            print(f"{row['classes']:>10,}{row['samples']:>12,}  {name:<16}{told}")
    for name, value in grown.items():
        print(f"processor time of {name} ~ C^{value}")


if __name__ == "__main__":
    main()
