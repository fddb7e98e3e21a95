"""How long the whole chain takes, stage by stage: `demo`, `fix` and `compare` on Glyphs-LT.

    python examples/benchmarks/chain.py [--json] [--only demo,fix,compare]

Whole processes, in an empty folder; wall-clock seconds, as the commands tell them themselves, and
the most memory that a command takes.
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

BACKBONE = "python:alphafix.demo.model:glyph_net"
MODEL = "alphafix-demo/model.safetensors"
COMMANDS = {
    "demo": ["demo"],
    "fix": [
        *("fix", MODEL, "--backbone", BACKBONE, "--data", "alphafix-demo/images"),
        *("--run", "fixed", "--output", "fixed.safetensors"),
    ],
    "compare": ["compare", "--run", "alphafix-demo"],
}
TARGETS = {"demo": 60.0, "compare": 30.0}
# "  6.7 s  alphafix extract: ..." of the demo, "[1/6] extract: 6.8 s" of all that runs stages.
STAGE = re.compile(r"^ *(?P<early>[\d.]+) s  (?P<what>[^:]+)|^\[.*\] (?P<name>.+): (?P<late>.+) s$")


@dataclass(frozen=True)
class Row:
    """What was measured.

    Attributes:
        what: A command, or one of its stages.
        seconds: Wall-clock time.
        memory: Peak memory in GiB; None for a stage.
        target: The most seconds that it should take, or None.
    """

    what: str
    seconds: float
    memory: float | None = None
    target: float | None = None


def measured(name: str, folder: Path) -> list[Row]:
    """A command in a process of its own, and its stages."""
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
    whole = Row(f"alphafix {name}", seconds, usage.ru_maxrss / 2**20, TARGETS.get(name))
    return [whole, *stages]


def chosen(text: str) -> list[str]:
    """A type of argparse: names of stages, split at commas."""
    names = text.split(",")
    if names[0] != "demo" or not set(names) <= set(COMMANDS):
        raise argparse.ArgumentTypeError(f"{text!r} is not demo and then some of {[*COMMANDS]}")
    return names


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", type=chosen, default=list(COMMANDS), help="demo comes first")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for name in given.only for row in measured(name, Path(folder))]
    if given.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return
    for row in rows:
        memory = "" if row.memory is None else f"{row.memory:.1f} GiB"
        missed = row.target is not None and row.seconds > row.target
        told = "" if row.target is None else f"target {row.target:g} s{', MISSED' * missed}"
        print(f"{row.what:<62}{row.seconds:7.1f} s {memory:>9}  {told}".rstrip())


if __name__ == "__main__":
    main()
