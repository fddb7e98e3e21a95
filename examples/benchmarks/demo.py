"""How long `alphafix demo` takes and how much memory, in a process of its own.

python examples/benchmarks/demo.py [--json]
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


def seconds_of(arguments: list[str], folder: Path) -> tuple[float, float]:
    """Wall seconds and peak memory (GiB) of one command."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "alphafix", *arguments],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"alphafix {' '.join(arguments)} failed")
    return time.perf_counter() - start, usage.ru_maxrss / 2**20


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        demo, memory = seconds_of(["demo"], Path(folder))
        helps = sorted(seconds_of(["--help"], Path(folder))[0] for _ in range(5))
    rows = [
        ("alphafix demo", demo, "s", 60, demo <= 60),
        ("peak memory of the demo", memory, "GiB", 2, memory <= 2),
        ("alphafix --help, median of 5", helps[2], "s", 0.4, helps[2] <= 0.4),
    ]
    if given.json:
        names = ("what", "value", "unit", "target", "met")
        print(json.dumps([dict(zip(names, row, strict=True)) for row in rows], indent=2))
        return
    for what, value, unit, target, met in rows:
        print(f"{what:34} {value:7.2f} {unit:4} <= {target:<5} {'met' if met else 'MISSED'}")


if __name__ == "__main__":
    main()
