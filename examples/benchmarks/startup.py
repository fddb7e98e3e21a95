"""How long commands take to start, beside Python that does nothing and Python that imports torch.

    python examples/benchmarks/startup.py [--json] [--repeat 5]

Whole processes, of which the fastest of some counts; wall-clock seconds, and in brackets seconds of
the processor, which other processes on the machine disturb less. `neighbors` and `train` work on
features of 40 classes that are made here.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from counts import positive

from alphafix.commands import COMMANDS

HELP_SECONDS, TIMES_TORCH = 0.1, 1.5


@dataclass(frozen=True)
class Took:
    """What a process took, in seconds."""

    wall: float
    cpu: float


def took(arguments: list[str], repeat: int) -> Took:
    """The fastest of some runs of Python with these arguments."""
    found = []
    for _ in range(repeat):
        before, start = os.times(), time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        wall, after = time.perf_counter() - start, os.times()
        cpu = after.children_user + after.children_system
        found.append(Took(wall, cpu - before.children_user - before.children_system))
    return Took(min(one.wall for one in found), min(one.cpu for one in found))


def write_features(folder: Path) -> tuple[Path, Path]:
    """Features and a head of 40 classes, every fourth of which is rare."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(40, 32))
    arrays: dict[str, Any] = {}
    for split, least, most in (("train", 5, 120), ("val", 10, 10), ("test", 10, 10)):
        labels = np.repeat(np.arange(40), np.where(np.arange(40) % 4, most, least))
        noise = rng.normal(size=(len(labels), 32))
        arrays[f"{split}_features"] = (means[labels] + noise).astype(np.float32)
        arrays[f"{split}_labels"] = labels
    features, head = folder / "features.npz", folder / "head.npz"
    np.savez(features, **arrays)
    np.savez(head, weight=means.astype(np.float32), bias=np.zeros(40, np.float32))
    return features, head


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeat", type=positive, default=5)
    given = parser.parse_args()
    repeat, alphafix = given.repeat, ["-m", "alphafix"]
    nothing, torch = took(["-c", "pass"], repeat), took(["-c", "import torch"], repeat)
    rows = [
        ("python -c pass", nothing, None),
        ('python -c "import torch"', torch, None),
        ("alphafix --help", took([*alphafix, "--help"], repeat), HELP_SECONDS),
    ]
    for name in COMMANDS:
        found = took([*alphafix, *name.split(), "--help"], repeat)
        rows.append((f"alphafix {name} --help", found, HELP_SECONDS))
    with tempfile.TemporaryDirectory() as folder:
        features, head = write_features(Path(folder))
        run = ["--run", str(Path(folder) / "run"), "--overwrite"]
        neighbors = ["neighbors", *run, "--features", str(features), "--head", str(head)]
        train = ["train", *run, "--seeds", "1", "--epochs", "6"]
        closed = ["train", *run, "--method", "few-bias"]
        for name, arguments in (
            ("neighbors, small", neighbors),
            ("train, small, 72 steps", train),
            ("train --method few-bias, small", closed),
        ):
            found = took([*alphafix, *arguments], repeat)
            rows.append((f"alphafix {name}", found, TIMES_TORCH * torch.wall))
    if given.json:
        print(
            json.dumps(
                [
                    {
                        "what": what,
                        **vars(one),
                        "times_torch": one.cpu / torch.cpu,
                        "target": target,
                    }
                    for what, one, target in rows
                ],
                indent=2,
            )
        )
        return
    print(f"{'':<40}{'wall':>8}{'cpu':>8}{'of torch':>10}  target")
    for what, one, target in rows:
        told = "" if target is None else f"{target:.2f} s{'' if one.wall <= target else ' missed'}"
        print(f"{what:<40}{one.wall:>7.2f}s{one.cpu:>7.2f}s{one.cpu / torch.cpu:>9.2f}x  {told}")


if __name__ == "__main__":
    main()
