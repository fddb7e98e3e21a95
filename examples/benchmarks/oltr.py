"""What OLTR's second stage costs beside plain training of the same backbone, in the same run.

Steps of both take turns, so that what else the machine does falls on both; the median of the
ratios of neighbouring steps counts. Images are on the device already: loading them costs both
the same. Memory is the peak of a process of its own for each (on a GPU, of what is allocated).

    python examples/benchmarks/oltr.py --json
    python examples/benchmarks/oltr.py --batch 16 --size 64 --turns 3
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from counts import positive
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from alphafix.devices import Placement, Precision
from alphafix.oltr.losses.objectives import Objective, OLTRObjective
from alphafix.oltr.models.attention import ModulatedAttention
from alphafix.oltr.models.backbones import build_backbone
from alphafix.oltr.models.heads import LinearHead, OLTRHead
from alphafix.oltr.models.memory import nearest_distance
from alphafix.oltr.models.network import LongTailModel, Network
from alphafix.oltr.training.running import Running

WIDTH = 512
PER_CLASS = 4  # images of a class in a batch, as the class-aware sampler draws them
KINDS = ("plain", "oltr")

Figure = dict[str, Any]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batch", type=positive, default=128)
    parser.add_argument("--size", type=positive, default=224)
    parser.add_argument("--classes", type=positive, default=1000)
    parser.add_argument("--turns", type=positive, default=5)
    parser.add_argument("--only", choices=KINDS, help=argparse.SUPPRESS)  # measured for memory
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.only:
        print(peak_mebibytes(given))
        return
    found = [*counted(given), *speeds(given), *memory(given), *distances(given)]
    if given.json:
        print(json.dumps(found, indent=2))
        return
    for entry in found:
        verdict = {True: "met", False: "MISSED", None: ""}[entry["met"]]
        target = "" if entry["target"] is None else f"{entry['target']:g}"
        print(f"{entry['what']:<58}{entry['value']:>10.4g} {entry['unit']:<9}{target:<6}{verdict}")


def figure(
    what: str, value: float, unit: str, target: float | None = None, *, most: bool = False
) -> Figure:
    """One line of the result; ``most`` says that the target is an upper limit."""
    met = None if target is None else bool(value <= target if most else value >= target)
    return {"what": what, "value": round(value, 4), "unit": unit, "target": target, "met": met}


class Training:
    """A model, its objective and its optimiser on one batch.

    Args:
        kind: "plain" (linear head, cross-entropy) or "oltr" (the official second stage).
        given: The options.
    """

    def __init__(self, kind: str, given: argparse.Namespace, *, batch: int | None = None) -> None:
        torch.manual_seed(0)
        backbone = build_backbone("resnet10")
        self.objective: Objective
        self.model: nn.Module
        if kind == "plain":
            head = LinearHead(WIDTH, given.classes)
            self.model = LongTailModel(Network(backbone), head)
            self.objective = Objective()
        else:
            size = backbone.map_size(given.size, given.size)
            attention = ModulatedAttention(backbone.channels, size)
            memory = OLTRHead(WIDTH, given.classes)
            self.model = LongTailModel(Network(backbone, attention, WIDTH), memory)
            self.objective = OLTRObjective(memory)
        self.model.to(given.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = torch.optim.SGD(self._groups(), lr=0.01, momentum=0.9, weight_decay=5e-4)
        batch = batch or given.batch
        images = torch.randn(batch, 3, given.size, given.size, device=given.device)
        self.images = images.contiguous(memory_format=torch.channels_last)
        classes = torch.arange(batch, device=given.device) // PER_CLASS
        self.labels: Tensor = classes % given.classes

    def _groups(self) -> list[dict[str, Any]]:
        own = self.objective.parameter_groups()
        apart = {id(parameter) for group in own for parameter in group["params"]}
        return [{"params": [p for p in self.model.parameters() if id(p) not in apart]}, *own]

    def step(self, precision: Precision = "fp32") -> None:
        """One step of training, as `train-oltr` makes it: the loss in float32."""
        self.optimiser.zero_grad()
        running = Running(Placement(self.images.device, precision))
        loss = self.objective(running.forward(self.model, self.images), self.labels)
        torch.autograd.backward(loss)
        self.optimiser.step()
        if self.images.is_cuda:
            torch.cuda.synchronize()


def counted(given: argparse.Namespace) -> list[Figure]:
    """Multiplications and additions of a step, which say what to expect."""
    flops = {}
    for kind in KINDS:
        training = Training(kind, given, batch=PER_CLASS)
        with FlopCounterMode(display=False) as counter:
            training.step()
        flops[kind] = counter.get_total_flops() / PER_CLASS / 1e9
    return [
        figure("counted operations of a plain step", flops["plain"], "GFLOP/im"),
        figure("counted operations, plain / OLTR", flops["plain"] / flops["oltr"], "x"),
    ]


def speeds(given: argparse.Namespace) -> list[Figure]:
    """Images a second of both, in turns."""
    trainings = {kind: Training(kind, given) for kind in KINDS}
    wall: dict[str, list[float]] = {kind: [] for kind in KINDS}
    used: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for turn in range(-1, given.turns):  # the first one warms up
        for kind in KINDS if turn % 2 else reversed(KINDS):
            start, before = time.perf_counter(), time.process_time()
            trainings[kind].step()
            if turn >= 0:
                wall[kind].append(time.perf_counter() - start)
                used[kind].append(time.process_time() - before)
    where = f"ResNet-10, {given.size} px, batch {given.batch}, C = {given.classes}, {given.device}"
    rate = {kind: given.batch / statistics.median(wall[kind]) for kind in KINDS}
    return [
        figure(f"plain ({where})", rate["plain"], "images/s"),
        figure("OLTR, second stage", rate["oltr"], "images/s"),
        figure("OLTR / plain", ratio(wall), "x", 0.9),
        figure("processor time, plain / OLTR", ratio(used), "x"),
    ]


def ratio(seconds: dict[str, list[float]]) -> float:
    """Median over turns of plain / OLTR."""
    pairs = zip(seconds["plain"], seconds["oltr"], strict=True)
    return statistics.median(plain / oltr for plain, oltr in pairs)


def peak_mebibytes(given: argparse.Namespace) -> float:
    """Peak memory of two steps in this process."""
    training = Training(given.only, given)
    for _ in range(2):
        training.step()
    if given.device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    # Not getrusage: what it says a process inherits from the one that started it.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**10


def memory(given: argparse.Namespace) -> list[Figure]:
    """Peak memory of both, each in a process of its own."""
    options = [
        f"--{name}={getattr(given, name)}" for name in ("device", "batch", "size", "classes")
    ]
    peaks = {}
    for kind in KINDS:
        command = [sys.executable, __file__, "--only", kind, *options]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks[kind] = float(done.stdout)
    return [
        figure("peak memory, plain", peaks["plain"], "MiB"),
        figure("peak memory, OLTR", peaks["oltr"], "MiB"),
        figure("peak memory, OLTR / plain", peaks["oltr"] / peaks["plain"], "x", 1.15, most=True),
    ]


def distances(given: argparse.Namespace) -> list[Figure]:
    """The least distance to a centroid as it is here, and by expansion to B x C x D."""
    direct = torch.randn(given.batch, WIDTH, device=given.device)
    centroids = torch.randn(given.classes, WIDTH, device=given.device)

    def expanded() -> Tensor:
        distance: Tensor = (direct[:, None] - centroids[None]).norm(dim=2).amin(1)
        return distance

    torch.testing.assert_close(expanded(), nearest_distance(direct, centroids))
    ours, theirs = (
        best_seconds(function, given.device)
        for function in (lambda: nearest_distance(direct, centroids), expanded)
    )
    size = given.batch * given.classes * WIDTH * 4 / 2**20
    return [
        figure("least distances", ours * 1e3, "ms"),
        figure(f"least distances, expanded ({size:.0f} MiB) / ours", theirs / ours, "x"),
    ]


def best_seconds(function: Callable[[], Tensor], device: str) -> float:
    """Best of some calls."""
    seconds = []
    for _ in range(7):
        start = time.perf_counter()
        function()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


if __name__ == "__main__":
    main()
