"""What patching a large safetensors file costs, beside `cp` of the same file in the same run.

Writes a file of --gigabytes with a head of 1000 x 2048 (ImageNet-LT's size, 136 few classes),
and times, in turns: `cp`, `cp` followed by `sync FILE` (alphafix flushes what it writes to the
disk before it gets its name; cp does not), `alphafix patch`, and `alphafix patch --in-place`.
Each is a process of its own, so that starting Python counts. Figures are medians of --repeats.
"The disk alone" is the floor of anything that flushes: the same bytes sent from memory to the
disk with O_DIRECT, with no copy, no comparison and no start of a program. Where the file system
shares blocks (btrfs, XFS), `cp --reflink=never` and `sync` are timed too.

    python examples/benchmarks/patch.py --json
"""

from __future__ import annotations

import argparse
import json
import mmap
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np

from alphafix.checkpoints import find_head
from alphafix.run.directory import CORRECTION, HEAD, Run
from alphafix.values.correction import Correction

P = ParamSpec("P")
R = TypeVar("R")

CLASSES, WIDTH, FEW = 1000, 2048, 136
LAYER_BYTES = 64 << 20
# Direct writes start and end at blocks; the few bytes that are left over are left out.
BLOCK, PIECE = 4096, 8 << 20
COMMAND = [sys.executable, "-c", "from alphafix.commands.app import main; main()"]


@dataclass(frozen=True)
class Cost:
    """Seconds and peak memory (bytes) of a process."""

    seconds: float
    memory: int


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=4.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to write (a temporary folder)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        model = apart(make_model, Path(folder), arguments.gigabytes)
        costs = measure(model, arguments.repeats)
    found = figures(costs)
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    for entry in found:
        verdict = {True: "met", False: "MISSED", None: ""}[entry["met"]]
        print(
            f"{entry['what']:<58}{entry['value']:>10.3g} {entry['unit']:<6}"
            f"{entry['target'] or '':<10}{verdict}"
        )


def apart(function: Callable[P, R], *arguments: P.args, **others: P.kwargs) -> R:
    """Call a function in a process of its own: what a process starts inherits its peak memory."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments, others)


def make_model(folder: Path, gigabytes: float) -> Path:
    """Write a large model, and a run directory with a correction for its head."""
    rng = np.random.default_rng(0)
    layers = max(1, round(gigabytes * 2**30 / LAYER_BYTES))
    sizes = [("fc.bias", [CLASSES]), ("fc.weight", [CLASSES, WIDTH])]
    sizes += [(f"layer{i}.weight", [LAYER_BYTES // 4 // 4096, 4096]) for i in range(layers)]
    header, end = {}, 0
    for name, shape in sizes:
        length = 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + length]}
        end += length
    text = json.dumps(header).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    path = folder / "model.safetensors"
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, shape in sizes:
            file.write(rng.standard_normal(shape, dtype=np.float32).tobytes())
        file.flush()
        os.fsync(file.fileno())
    head = find_head(path, num_classes=CLASSES, width=WIDTH)
    run = Run(folder / "run")
    head.save(run.path(HEAD))
    classes = np.sort(rng.choice(CLASSES, FEW, replace=False))
    rows = rng.standard_normal((FEW, WIDTH), dtype=np.float32)
    Correction(classes, rows, rows[:, 0].copy()).save(run.path(CORRECTION))
    return path


# Where a file system shares blocks, what it saves is told against a copy that does not.
COPYING = "cp --reflink=never and sync"


def measure(model: Path, repeats: int) -> dict[str, list[Cost]]:
    """Time each way in turns."""
    copy = model.with_name("copy.safetensors")
    patch = [*COMMAND, "patch", str(model), "--run", str(model.with_name("run")), "-o", str(copy)]
    in_place = [*patch[:-2], "--in-place"]
    ways = {
        "cp": [["cp", str(model), str(copy)]],
        "cp and sync": [["sh", "-c", f"cp '{model}' '{copy}' && sync '{copy}'"]],
        "patch": [patch],
        "patch --verify rows": [[*patch, "--verify", "rows"]],
    }
    if shares_blocks(model, copy):
        never = f"cp --reflink=never '{model}' '{copy}' && sync '{copy}'"
        ways[COPYING] = [["sh", "-c", never]]
    costs: dict[str, list[Cost]] = {
        name: [] for name in [*ways, "the disk alone", "patch --in-place", "revert"]
    }
    for _ in range(repeats):
        for name, commands in ways.items():
            os.sync()
            costs[name] += [run_process(command) for command in commands]
            copy.unlink()
        os.sync()
        costs["the disk alone"].append(apart(send_to_disk, model, copy))
        os.sync()
        costs["patch --in-place"].append(run_process(in_place))
        costs["revert"].append(run_process([*COMMAND, "patch", "--revert", str(model)]))
    return costs


def shares_blocks(model: Path, copy: Path) -> bool:
    """Whether the file system copies by sharing blocks, as btrfs and XFS do."""
    command = ["cp", "--reflink=always", str(model), str(copy)]
    done = subprocess.run(command, capture_output=True, check=False)
    copy.unlink(missing_ok=True)
    return done.returncode == 0


def send_to_disk(model: Path, copy: Path) -> Cost:
    """Write the bytes of a file that is in memory to another one as fast as the disk takes them."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_DIRECT
    with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        view = memoryview(data)
        whole = len(view) - len(view) % BLOCK
        disk = os.open(copy, flags)
        start = time.perf_counter()
        with ThreadPoolExecutor(8) as threads:
            offsets = range(0, whole, PIECE)
            sent = threads.map(
                lambda o: os.pwrite(disk, view[o : min(o + PIECE, whole)], o), offsets
            )
            if sum(sent) != whole:
                raise SystemExit("the disk took only some of the bytes")
        os.fsync(disk)
        seconds = time.perf_counter() - start
        os.close(disk)
        view.release()
    copy.unlink()
    return Cost(seconds, 0)


def run_process(command: Sequence[str]) -> Cost:
    """Run a command to its end."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    message = process.stderr.read().decode() if process.stderr else ""
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}\n{message}")
    return Cost(seconds, usage.ru_maxrss * 1024)


def figures(costs: dict[str, list[Cost]]) -> list[dict[str, object]]:
    """The medians, and the targets that they have to meet."""
    seconds = {name: statistics.median(c.seconds for c in own) for name, own in costs.items()}
    memory = max(cost.memory for cost in costs["patch"]) / 1e6
    # Where cp only shares blocks there is nothing to be compared with.
    bar = None if COPYING in seconds else 1.2
    found = [figure(f"time of {name}", seconds[name], "s") for name in ("cp", "cp and sync")]
    found += [
        figure("time of patch (every byte compared)", seconds["patch"], "s"),
        figure("time of patch / time of cp", seconds["patch"] / seconds["cp"], "x"),
        figure(
            "time of patch / time of cp and sync",
            seconds["patch"] / seconds["cp and sync"],
            "x",
            bar,
        ),
        figure(
            "time of patch --verify rows / time of cp",
            seconds["patch --verify rows"] / seconds["cp"],
            "x",
        ),
        figure(
            "time of the disk alone / time of cp", seconds["the disk alone"] / seconds["cp"], "x"
        ),
        figure("peak memory of patch", memory, "MB", 300),
        figure("time of patch --in-place", seconds["patch --in-place"], "s", 1),
        figure("time of patch --revert", seconds["revert"], "s"),
    ]
    if COPYING in seconds:
        found += [
            figure(
                f"time of {name} / time of {COPYING}", seconds[name] / seconds[COPYING], "x", 0.1
            )
            for name in ("patch", "patch --verify rows")
        ]
    return found


def figure(what: str, value: float, unit: str, most: float | None = None) -> dict[str, object]:
    """One figure, with the most that it may be."""
    return {
        "what": what,
        "value": round(value, 4),
        "unit": unit,
        "target": None if most is None else f"<= {most:g}",
        "met": None if most is None else value <= most,
    }


if __name__ == "__main__":
    main()
