"""What patching a large safetensors file costs, beside `cp` of the same file in the same run.

Writes a file of --gigabytes with a head of 1000 x 2048 (ImageNet-LT's size, 136 few classes),
and times, in turns: `cp`, `cp` followed by `sync FILE` (alphafix flushes what it writes to the
disk before it gets its name; cp does not), `alphafix patch`, and `alphafix patch --in-place`.
Each is a process of its own, so that starting Python counts. Figures are medians of --repeats.
"The disk alone" is the floor of anything that flushes: the same bytes sent from memory to the
disk with O_DIRECT, with no copy, no comparison and no start of a program. Where the file system
shares blocks (btrfs, XFS), `cp --reflink=never` and `sync` are timed too. Both file systems are
made for this, in images on loop devices, with a model of --shared gigabytes; where that cannot be
(it takes root, mkfs.btrfs and mkfs.xfs), a figure without a value says why.

What a file of --large gigabytes would cost is extrapolated: the line through the medians at half
of --gigabytes and at --gigabytes. What does not depend on the size, `patch --in-place` and
`--revert`, is measured on a sparse file that large, whose holes take no room.

    python examples/benchmarks/patch.py --json
    python examples/benchmarks/patch.py --gigabytes 2 --folder /mnt/btrfs --large 0 --shared 0
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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
from counts import above_zero, positive, zero_or_more

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
    parser.add_argument("--gigabytes", type=above_zero, default=4.0)
    parser.add_argument("--repeats", type=positive, default=3)
    parser.add_argument(
        "--large", type=zero_or_more, default=70.0, help="gigabytes to extrapolate to (0: not)"
    )
    parser.add_argument(
        "--shared",
        type=zero_or_more,
        default=2.0,
        help="gigabytes on btrfs and XFS (0: not)",
    )
    parser.add_argument("--folder", type=Path, help="where to write (a temporary folder)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        model = apart(make_model, Path(folder), arguments.gigabytes)
        costs = measure(model, arguments.repeats)
    found = figures(costs)
    if arguments.large:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            half = apart(make_model, Path(folder), arguments.gigabytes / 2)
            ways = {name: ways_of(half)[name] for name in EXTRAPOLATED}
            halves = measure_copies(half, ways, arguments.repeats)
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            sparse = apart(make_model, Path(folder), arguments.large, sparse=True)
            in_place = measure_in_place(sparse, arguments.repeats)
        sizes = (arguments.gigabytes / 2, arguments.gigabytes, arguments.large)
        found += large_figures(halves, costs, in_place, sizes)
    if arguments.shared:
        for kind in SHARING:
            found += shared_figures(kind, arguments.shared, arguments.repeats, arguments.folder)
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    for entry in found:
        if entry["value"] is None:
            print(entry["what"])
            continue
        verdict = {True: "met", False: "MISSED", None: ""}[entry["met"]]
        print(
            f"{entry['what']:<58}{entry['value']:>10.3g} {entry['unit']:<6}"
            f"{entry['target'] or '':<10}{verdict}"
        )


def apart(function: Callable[P, R], *arguments: P.args, **others: P.kwargs) -> R:
    """Call a function in a process of its own: what a process starts inherits its peak memory."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments, others)


def make_model(folder: Path, gigabytes: float, *, sparse: bool = False) -> Path:
    """Write a large model, and a run directory with a correction for its head.

    Of a sparse one only the head is on the disk.
    """
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
        for name, shape in sizes:
            if not sparse or name.startswith("fc."):
                file.write(rng.standard_normal(shape, dtype=np.float32).tobytes())
        file.truncate(8 + len(text) + end)
        file.flush()
        os.fsync(file.fileno())
    head = find_head(path, num_classes=CLASSES, width=WIDTH)
    run = Run(folder / "run")
    head.save(run.path(HEAD))
    classes = np.sort(rng.choice(CLASSES, FEW, replace=False))
    rows = rng.standard_normal((FEW, WIDTH), dtype=np.float32)
    Correction(classes, rows, rows[:, 0].copy()).save(run.path(CORRECTION))
    return path


class NotHereError(Exception):
    """What cannot be measured here, and why."""


# File systems that share blocks, and what makes one.
SHARING = {"btrfs": ["mkfs.btrfs", "-q"], "xfs": ["mkfs.xfs", "-q"]}


@contextmanager
def disk_image(kind: str, gigabytes: float, folder: Path | None) -> Iterator[Path]:
    """A file system in an image on a loop device, with room for two models and what it needs.

    Raises:
        NotHereError: If it cannot be made or mounted here.
    """
    with tempfile.TemporaryDirectory(dir=folder) as made:
        image, place = Path(made) / "image", Path(made) / "disk"
        place.mkdir()
        with image.open("wb") as file:
            file.truncate(int((2.2 * gigabytes + 0.5) * 2**30))
        mount = ["mount", "-o", "loop", str(image), str(place)]
        for command in ([*SHARING[kind], str(image)], mount):
            try:
                done = subprocess.run(command, capture_output=True, text=True, check=False)
            except OSError as error:
                raise NotHereError(f"{command[0]}: {error.strerror}") from error
            if done.returncode:
                told = (done.stderr or done.stdout).strip().splitlines()
                raise NotHereError(told[0] if told else f"{command[0]} failed")
        try:
            yield place
        finally:
            subprocess.run(["umount", str(place)], check=True)


def shared_figures(
    kind: str, gigabytes: float, repeats: int, folder: Path | None
) -> list[dict[str, Any]]:
    """What copying costs where it shares blocks, against a copy that does not."""
    where = f"{kind} image, {gigabytes:g} GB"
    try:
        with disk_image(kind, gigabytes, folder) as place:
            model = apart(make_model, place, gigabytes)
            ways = ways_of(model)
            if COPYING not in ways:
                raise NotHereError("cp --reflink=always does not share blocks there")
            names = ("patch", "patch --verify rows", COPYING)
            seconds = medians(measure_copies(model, {name: ways[name] for name in names}, repeats))
    except NotHereError as error:
        what = f"patch on a {where}: not here ({error})"
        return [{"what": what, "value": None, "unit": "", "target": None, "met": None}]
    return [
        figure(f"time of {COPYING}: {where}", seconds[COPYING], "s"),
        *(
            figure(f"{name} / {COPYING}: {where}", seconds[name] / seconds[COPYING], "x", 0.1)
            for name in names[:2]
        ),
    ]


# Where a file system shares blocks, what it saves is told against a copy that does not.
COPYING = "cp --reflink=never and sync"


def ways_of(model: Path) -> dict[str, list[list[str]]]:
    """The commands by which a model is copied."""
    copy = copy_of(model)
    patch = [*patching(model), "-o", str(copy)]
    ways = {
        "cp": [["cp", str(model), str(copy)]],
        "cp and sync": [["sh", "-c", f"cp '{model}' '{copy}' && sync '{copy}'"]],
        "patch": [patch],
        "patch --verify rows": [[*patch, "--verify", "rows"]],
    }
    if shares_blocks(model, copy):
        never = f"cp --reflink=never '{model}' '{copy}' && sync '{copy}'"
        ways[COPYING] = [["sh", "-c", never]]
    return ways


def measure(model: Path, repeats: int) -> dict[str, list[Cost]]:
    """Time each way in turns."""
    copy, ways = copy_of(model), ways_of(model)
    costs: dict[str, list[Cost]] = {name: [] for name in [*ways, "the disk alone", *IN_PLACE]}
    for _ in range(repeats):
        for name, found in measure_copies(model, ways).items():
            costs[name] += found
        os.sync()
        costs["the disk alone"].append(apart(send_to_disk, model, copy))
        for name, found in measure_in_place(model, 1).items():
            costs[name] += found
    return costs


def measure_copies(
    model: Path, ways: dict[str, list[list[str]]], repeats: int = 1
) -> dict[str, list[Cost]]:
    """Time these ways of copying in turns."""
    costs: dict[str, list[Cost]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, commands in ways.items():
            os.sync()
            costs[name] += [run_process(command) for command in commands]
            copy_of(model).unlink()
    return costs


EXTRAPOLATED = ("cp and sync", "patch")


def copy_of(model: Path) -> Path:
    """Where a model is copied to."""
    return model.with_name("copy.safetensors")


IN_PLACE = ("patch --in-place", "revert")


def patching(model: Path) -> list[str]:
    """The command that patches a model, but for where to."""
    return [*COMMAND, "patch", str(model), "--run", str(model.with_name("run"))]


def measure_in_place(model: Path, repeats: int) -> dict[str, list[Cost]]:
    """Time what changes the model itself, and takes that back."""
    costs: dict[str, list[Cost]] = {name: [] for name in IN_PLACE}
    for _ in range(repeats):
        os.sync()
        costs["patch --in-place"].append(run_process([*patching(model), "--in-place"]))
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


def figures(costs: dict[str, list[Cost]]) -> list[dict[str, Any]]:
    """The medians, and the targets that they have to meet."""
    seconds = medians(costs)
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


def medians(costs: dict[str, list[Cost]]) -> dict[str, float]:
    """Seconds of each way."""
    return {name: statistics.median(cost.seconds for cost in own) for name, own in costs.items()}


def large_figures(
    halves: dict[str, list[Cost]],
    wholes: dict[str, list[Cost]],
    in_place: dict[str, list[Cost]],
    sizes: tuple[float, float, float],
) -> list[dict[str, Any]]:
    """What a large file costs: extrapolated from two sizes, and measured where it is sparse.

    Args:
        halves: Costs of the smaller file.
        wholes: Costs of the larger one.
        in_place: Costs of what changes a sparse file of the large size itself.
        sizes: Gigabytes of the three.
    """
    half, whole, large = sizes
    one, two, own = medians(halves), medians(wholes), medians(in_place)
    steps = (large - whole) / (whole - half)
    seconds = {name: two[name] + steps * max(0.0, two[name] - one[name]) for name in EXTRAPOLATED}
    told = f"{large:g} GB, extrapolated from {half:g} and {whole:g}"
    ratio = seconds["patch"] / seconds["cp and sync"]
    memory = max(cost.memory for cost in in_place["patch --in-place"]) / 1e6
    return [
        figure(f"time of patch: {told}", seconds["patch"], "s"),
        figure(f"patch / cp and sync: {told}", ratio, "x", None if COPYING in two else 1.2),
        *(figure(f"time of {name}, sparse {large:g} GB", own[name], "s") for name in IN_PLACE),
        figure(f"peak memory of patch --in-place, sparse {large:g} GB", memory, "MB", 300),
    ]


def figure(what: str, value: float, unit: str, most: float | None = None) -> dict[str, Any]:
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
