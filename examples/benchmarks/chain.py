"""How long the whole chain takes, stage by stage: `demo`, `fix` and `compare` on Glyphs-LT.

    python examples/benchmarks/chain.py [--json] [--only demo,fix,compare]
    python examples/benchmarks/chain.py --only wide,wide-compare,wide-compare-time,wide-auto-time

Whole processes, in an empty folder; wall-clock seconds, as the commands tell them themselves, the
seconds of processors, and the most memory that a command takes. *wide* is not of the demo: random
features of the size of a pretrained network's (8,900 samples, 100 classes, D 1280), with their
neighbours and AlphaNet's correction; then all methods of `compare` on them, these with `--time 60`,
and `train --method auto`, which takes long, with that too.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

BACKBONE = "python:alphafix.demo.model:glyph_net"
MODEL = "alphafix-demo/model.safetensors"
COMMANDS = {
    "demo": ["demo"],
    "fix": [
        *("fix", MODEL, "--backbone", BACKBONE, "--data", "alphafix-demo/images"),
        *("--run", "fixed", "--output", "fixed.safetensors"),
    ],
    "compare": ["compare", "--run", "alphafix-demo"],
    "wide": ["train", "--run", "wide"],
    "wide-compare": ["compare", "--run", "wide", "--overwrite"],
    "wide-compare-time": ["compare", "--run", "wide", "--overwrite", "--time", "60"],
    "wide-auto": ["train", "--method", "auto", "--run", "wide", "--overwrite"],
    "wide-auto-time": ["train", "--method", "auto", "--time", "60", "--run", "wide", "--overwrite"],
}
USUAL = "demo,fix,compare"
TARGETS = {"demo": 60.0, "compare": 30.0}
CLASSES, WIDTH, HELD_OUT, NOISE = 100, 1280, 18, 12
# "  6.7 s  alphafix extract: ..." of the demo, "[1/6] extract: 6.8 s" of all that runs stages.
STAGE = re.compile(r"^ *(?P<early>[\d.]+) s  (?P<what>[^:]+)|^\[.*\] (?P<name>.+): (?P<late>.+) s$")


@dataclass(frozen=True)
class Row:
    """What was measured.

    Attributes:
        what: A command, or one of its stages.
        seconds: Wall-clock time.
        processor: Seconds of processors; None for a stage.
        memory: Peak memory in GiB; None for a stage.
        target: The most seconds that it should take, or None.
    """

    what: str
    seconds: float
    processor: float | None = None
    memory: float | None = None
    target: float | None = None


def write_wide(folder: Path) -> None:
    """A run directory with random features, not negative as behind a ReLU, and neighbours."""
    rng = np.random.default_rng(0)
    counts = np.asarray(np.geomspace(200, 5, CLASSES), dtype=np.int64)
    centers = rng.gamma(0.5, size=(CLASSES, WIDTH)).astype(np.float32)
    arrays = {}
    for split in ("train", "val", "test"):
        labels = np.repeat(np.arange(CLASSES), counts if split == "train" else HELD_OUT)
        noise = rng.standard_normal((len(labels), WIDTH), dtype=np.float32) * NOISE
        arrays[f"{split}_features"] = np.maximum(centers[labels] + noise, 0)
        arrays[f"{split}_labels"] = labels
    # A head that knows the rare classes less well, as a trained one does.
    error = rng.standard_normal(centers.shape, dtype=np.float32) / np.sqrt(counts)[:, None]
    weight = (centers - centers.mean(0) + error) * 0.05
    np.savez(folder / "features.npz", **arrays)
    np.savez(folder / "head.npz", weight=weight.astype(np.float32), bias=np.log(counts / 200) / 2)
    command = ["neighbors", "--run", "wide", "--features", "features.npz", "--head", "head.npz"]
    subprocess.run(
        [sys.executable, "-m", "alphafix", *command], cwd=folder, check=True, capture_output=True
    )


def measured(name: str, folder: Path) -> list[Row]:
    """A command in a process of its own, and its stages."""
    if name == "wide":
        write_wide(folder)
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "alphafix", *COMMANDS[name]],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    told = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"alphafix {name} failed: {told}")
    stages = [
        Row(f"  {found['what'] or found['name']}", float(found["early"] or found["late"]))
        for found in map(STAGE.match, told.splitlines())
        if found
    ]
    whole = Row(
        f"alphafix {' '.join(COMMANDS[name])}" if name.startswith("wide") else f"alphafix {name}",
        seconds,
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss / 2**20,
        TARGETS.get(name),
    )
    return [whole, *stages]


def chosen(text: str) -> list[str]:
    """A type of argparse: names of commands, split at commas, each behind what makes its data."""
    names = text.split(",")
    for place, name in enumerate(names):
        if name not in COMMANDS:
            raise argparse.ArgumentTypeError(f"{text!r} is not some of {', '.join(COMMANDS)}")
        first = "wide" if name.startswith("wide") else "demo"
        if first not in names[: place + 1]:
            raise argparse.ArgumentTypeError(f"{text!r} has no {first} before {name}")
    return names


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--only",
        type=chosen,
        default=chosen(USUAL),
        help=f"some of {', '.join(COMMANDS)}",
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for name in given.only for row in measured(name, Path(folder))]
    if given.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return
    for row in rows:
        memory = "" if row.memory is None else f"{row.memory:.1f} GiB"
        used = "" if row.processor is None else f"{row.processor:.1f} s of processors"
        missed = row.target is not None and row.seconds > row.target
        told = "" if row.target is None else f"target {row.target:g} s{', MISSED' * missed}"
        print(f"{row.what:<62}{row.seconds:7.1f} s {used:>22} {memory:>9}  {told}".rstrip())


if __name__ == "__main__":
    main()
