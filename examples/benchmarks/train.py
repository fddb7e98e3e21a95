"""How fast `alphafix train` is, on synthetic features of ImageNet-LT's size.

    python examples/benchmarks/train.py [--json] [--full]

All comparisons are ratios within one run. --full adds the whole of the paper's Table A1
(13 rho x 10 seeds), which is for a GPU.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from alphafix.alphanet.neighbors import nearest_neighbours, random_neighbours
from alphafix.alphanet.sampling import Pool
from alphafix.alphanet.scores import ScoreLayout, Scores, reduce_scores
from alphafix.alphanet.specs import TrialSpec, all_specs, make_trial
from alphafix.alphanet.sweep import batches
from alphafix.alphanet.training import train_batch
from alphafix.alphanet.trial import Hyper, SweepData, Trial
from alphafix.errors import MissingPackageError
from alphafix.values.arrays import FloatArray, IntArray
from alphafix.values.classes import ClassTable
from alphafix.values.head import Head

TABLE_A1 = (0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 3.0)


@dataclass(frozen=True)
class Size:
    """A long-tailed problem: ImageNet-LT's by default."""

    classes: int = 1000
    width: int = 2048
    few: int = 136
    few_samples: int = 1643
    train: int = 115_846
    val: int = 20_000


@dataclass(frozen=True)
class Problem:
    """Features, labels and a head, all in memory."""

    train: FloatArray
    labels: IntArray
    val: FloatArray
    val_labels: IntArray
    classes: ClassTable
    head: Head
    neighbors: IntArray


def generate(size: Size, seed: int = 0) -> Problem:
    """Gaussian classes around random means, non-negative like features behind a ReLU."""
    rng = np.random.default_rng(seed)
    base = size.classes - size.few
    rest = size.train - size.few_samples
    counts = np.r_[np.full(base, rest // base), np.full(size.few, size.few_samples // size.few)]
    counts[: rest - rest // base * base] += 1
    counts[base : base + size.few_samples % size.few] += 1
    centers = rng.gamma(0.5, size=(size.classes, size.width)).astype(np.float32)
    labels = np.repeat(np.arange(size.classes), counts)
    val_labels = np.resize(np.arange(size.classes), size.val)

    def draw(wanted: IntArray) -> FloatArray:
        noise = rng.standard_normal((len(wanted), size.width), dtype=np.float32)
        noise *= 3
        noise += centers[wanted]
        return np.maximum(noise, 0, out=noise)

    weight = (centers - centers.mean(0)) * np.float32(0.02)
    weight += rng.standard_normal(weight.shape, dtype=np.float32) * np.float32(0.01)
    classes = ClassTable(tuple(map(str, range(size.classes))), counts)
    head = Head(weight, rng.standard_normal(size.classes, dtype=np.float32) * np.float32(0.1))
    neighbors = neighbours_of(centers, classes)
    return Problem(draw(labels), labels, draw(val_labels), val_labels, classes, head, neighbors)


def neighbours_of(centers: FloatArray, classes: ClassTable) -> IntArray:
    """The nearest classes, or any where FAISS is not installed: they take the same time."""
    try:
        return nearest_neighbours(centers.astype(np.float64), classes).ids
    except MissingPackageError as error:
        print(f"{error}; neighbours are drawn at random", file=sys.stderr)
        return random_neighbours(classes, k=5, seed=0)


class Clock:
    """Seconds of each named part."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Count the block's seconds to ``name``."""
        start = time.perf_counter()
        yield
        self.parts[name] = self.parts.get(name, 0.0) + time.perf_counter() - start

    def total(self) -> float:
        """Seconds of all parts."""
        return sum(self.parts.values())


def scores_of(
    problem: Problem, layout: ScoreLayout, device: torch.device, index: IntArray | None
) -> Scores:
    """Training samples ``index``, or validation samples where it is None."""
    if index is None:
        features, labels = problem.val, problem.val_labels
    else:
        features, labels = problem.train, problem.labels
    rows = np.arange(len(labels)) if index is None else index
    chunks = ((features[i], labels[i]) for i in np.array_split(rows, max(1, len(rows) // 4096)))
    return reduce_scores(
        chunks,
        len(rows),
        problem.head,
        layout,
        device=device,
        memory=2 << 30,
        class_major=index is None,
    )


def run_ours(
    problem: Problem, specs: list[TrialSpec], hyper: Hyper, device: torch.device, most: int
) -> Clock:
    """Everything that `alphafix train` does once features are in memory."""
    clock = Clock()
    with clock("sampling"):
        pool = Pool.of(problem.labels, problem.classes)
        trials = [make_trial(s, problem.neighbors, pool, hyper) for s in specs]
        index = np.unique(np.concatenate([np.unique(trial.samples) for trial in trials]))
        trials = [replace(t, samples=np.searchsorted(index, t.samples)) for t in trials]
    with clock("reduction"):
        layout = ScoreLayout.of(len(problem.classes), problem.classes.few, problem.neighbors)
        data = data_of(problem, layout, device, index)
        synchronize(device)
    steps = [trial.steps(hyper) for trial in trials]
    with clock("steps and validation"):
        for batch in batches(specs, steps=steps, most=most):
            train_batch([trials[i] for i in batch], data, hyper, advance=lambda n: None)
        synchronize(device)
    return clock


def data_of(
    problem: Problem,
    layout: ScoreLayout,
    device: torch.device,
    index: IntArray,
    *,
    val: bool = True,
) -> SweepData:
    """Reduced training (and validation) data."""
    positions = np.full(len(problem.classes), -1, dtype=np.int64)
    positions[layout.columns] = np.arange(len(layout.columns))
    few = problem.classes.few
    return SweepData(
        train=scores_of(problem, layout, device, index),
        val=scores_of(problem, layout, device, None) if val else None,
        weight=torch.from_numpy(problem.head.weight).to(device),
        biases=torch.from_numpy(problem.head.bias_or_zeros[few]).to(device),
        scale=1.0,
        few=torch.from_numpy(few).to(device),
        positions=torch.from_numpy(positions).to(device),
    )


def synchronize(device: torch.device) -> None:
    """Wait for a GPU, so that its time is counted where it is spent."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def run_direct(problem: Problem, spec: TrialSpec, hyper: Hyper, device: torch.device) -> float:
    """Seconds of a vectorised direct implementation: features and the whole patched head."""
    start = time.perf_counter()
    pool = Pool.of(problem.labels, problem.classes)
    trial: Trial = make_trial(spec, problem.neighbors, pool, hyper)
    torch.manual_seed(trial.seed)
    weight = torch.from_numpy(problem.head.weight).to(device)
    bias = torch.from_numpy(problem.head.bias_or_zeros).to(device)
    few = torch.from_numpy(problem.classes.few).to(device)
    near = weight[torch.from_numpy(trial.neighbors).to(device)]
    inputs = near.flatten(1)
    sizes = [inputs.shape[1], *hyper.hidden]
    layers: list[nn.Module] = []
    for size, next_size in pairwise(sizes):
        layers += [nn.Linear(size, next_size), nn.LeakyReLU()]
    network = nn.Sequential(*layers, nn.Linear(sizes[-1], trial.k)).to(device)
    few_bias = nn.Parameter(bias[few].clone())
    optimizer = torch.optim.AdamW([*network.parameters(), few_bias], lr=hyper.lr, fused=True)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, hyper.decay_every, 0.1)
    features, labels = torch.from_numpy(problem.train), torch.from_numpy(problem.labels)
    val, val_labels = torch.from_numpy(problem.val).to(device), torch.from_numpy(problem.val_labels)

    def patched() -> tuple[Tensor, Tensor]:
        alpha = network(inputs)
        alpha = alpha / alpha.abs().sum(1, keepdim=True)
        rows = weight[few] + torch.einsum("fk,fkd->fd", alpha, near)
        return weight.index_copy(0, few, rows), bias.index_copy(0, few, few_bias)

    for epoch, samples in enumerate(torch.from_numpy(trial.samples), start=1):
        for batch in torch.split(samples, hyper.batch_size):
            w, b = patched()
            logits = features[batch].to(device) @ w.T + b
            loss = functional.cross_entropy(logits, labels[batch].to(device))
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
        schedule.step()
        if epoch >= hyper.first_epoch:
            with torch.no_grad():
                w, b = patched()
                int(((val @ w.T + b).argmax(1).cpu() == val_labels).sum())
    synchronize(device)
    return time.perf_counter() - start


def validation_share(problem: Problem, spec: TrialSpec, hyper: Hyper) -> float:
    """Share of the training time that validation takes, by leaving it out."""
    device = torch.device("cpu")
    layout = ScoreLayout.of(len(problem.classes), problem.classes.few, problem.neighbors)
    pool = Pool.of(problem.labels, problem.classes)
    trial = make_trial(spec, problem.neighbors, pool, hyper)
    index = np.unique(trial.samples)
    trial = replace(trial, samples=np.searchsorted(index, trial.samples))
    data = data_of(problem, layout, device, index)
    seconds = []
    for val in (data.val, None):
        start = time.perf_counter()
        train_batch([trial], replace(data, val=val), hyper, advance=lambda n: None)
        seconds.append(time.perf_counter() - start)
    return max(0.0, 1 - seconds[1] / seconds[0])


def floor_seconds(
    problem: Problem, trials: int, steps: int, flops: float, *, distinct: bool = False
) -> float:
    """The least time for the first layer's products, forward and gradient, of all steps.

    With the neighbours' rows of all classes, or with those that are distinct at each place.
    """
    near = problem.neighbors
    rows = sum(len(np.unique(place)) for place in near.T) if distinct else near.size
    return float(trials * steps * 2 * (2 * rows * problem.head.width * 32) / flops)


def peak_flops(device: torch.device) -> float:
    """Measured float32 operations a second of a large square product."""
    a = torch.randn(2048, 2048, device=device)
    best = np.inf
    for _ in range(5):
        start = time.perf_counter()
        a @ a
        synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * 2048**3 / best


def growth(device: torch.device, hyper: Hyper) -> dict[str, float]:
    """Time a step when C or D doubles with F and K fixed, relative to the smaller problem."""
    small = Size(classes=500, width=512, few=64, few_samples=640, train=20_000, val=1000)
    times = {}
    for name, size in {
        "C": replace(small, classes=1000),
        "D": replace(small, width=1024),
        "small": small,
    }.items():
        problem = generate(size)
        layout = ScoreLayout.of(len(problem.classes), problem.classes.few, problem.neighbors)
        pool = Pool.of(problem.labels, problem.classes)
        trial = make_trial(TrialSpec(0.5, 5, 0), problem.neighbors, pool, hyper)
        index = np.unique(trial.samples)
        trial = replace(trial, samples=np.searchsorted(index, trial.samples))
        data = data_of(problem, layout, device, index, val=False)
        best = np.inf
        for _ in range(3):
            start = time.perf_counter()
            train_batch([trial], data, hyper, advance=lambda n: None)
            synchronize(device)
            best = min(best, time.perf_counter() - start)
        times[name] = best
    return {name: times[name] / times["small"] for name in ("C", "D")}


class Memory:
    """The growth of this process's resident memory within a block, at its highest (Linux)."""

    def __enter__(self) -> Memory:
        """Start counting from here."""
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        self.before = self._read("VmRSS")
        return self

    def __exit__(self, *error: object) -> None:
        """Stop counting."""
        self.gibibytes = (self._read("VmHWM") - self.before) / 2**20

    @staticmethod
    def _read(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--full", action="store_true", help="13 rho x 10 seeds (a GPU)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--no-direct", action="store_true", help="leave the direct one out")
    given = parser.parse_args()
    device = torch.device(given.device)
    hyper = Hyper()
    problem = generate(Size())
    warm_up = replace(hyper, epochs=1, first_epoch=1)
    run_ours(problem, [TrialSpec(0.5, 5, 0)], warm_up, device, 1)

    with Memory() as memory:
        ten = run_ours(problem, list(all_specs([0.5], [5], range(10))), hyper, device, 10)
    beyond = memory.gibibytes
    one = run_ours(problem, [TrialSpec(0.5, 5, 0)], hyper, device, 1)
    rows: list[tuple[str, float, str, float | None, bool | None]] = [
        ("one trial, rho 0.5", one.total(), "s", 6, one.total() <= 6),
        ("10 seeds / one trial", ten.total() / one.total(), "x", 7, ten.total() <= 7 * one.total()),
        ("memory of 10 seeds beyond the features", beyond, "GiB", 1.5, beyond <= 1.5),
    ]
    for name, clock in (("one trial", one), ("10 seeds", ten)):
        rows += [
            (f"share of {part}, {name}", seconds / clock.total(), "", None, None)
            for part, seconds in clock.parts.items()
        ]
    if device.type == "cpu":
        share = validation_share(problem, TrialSpec(0.5, 5, 0), hyper)
        rows.append(
            ("validation's share of steps and validation, one trial", share, "", None, None)
        )
    steps = 25 * -(-(1643 + 821) // hyper.batch_size)
    flops = peak_flops(device)
    for name, clock, trials, goal in (("one trial", one, 1, 2.0), ("10 seeds", ten, 10, 1.5)):
        spent = clock.parts["steps and validation"]
        ratio = spent / floor_seconds(problem, trials, steps, flops)
        rows.append((f"steps / products of all rows, {name}", ratio, "x", goal, ratio <= goal))
        ratio = spent / floor_seconds(problem, trials, steps, flops, distinct=True)
        rows.append((f"steps / products of distinct rows, {name}", ratio, "x", None, None))
    if not given.no_direct:
        direct = run_direct(problem, TrialSpec(0.5, 5, 0), hyper, device)
        ratio = direct / one.total()
        rows.append(("direct implementation / one trial", ratio, "x", 4, ratio >= 4))
    grown = growth(device, replace(hyper, epochs=10))
    rows.append(("time of steps when C doubles", grown["C"], "x", 1.1, grown["C"] <= 1.1))
    rows.append(("time of steps when D doubles", grown["D"], "x", None, None))
    if given.full:
        every = list(all_specs(TABLE_A1, [5], range(10)))
        full = run_ours(problem, every, hyper, device, 130)
        rows.append(("13 rho x 10 seeds", full.total(), "s", 10, full.total() <= 10))
    show(rows, as_json=given.json)


def show(rows: list[tuple[str, float, str, float | None, bool | None]], *, as_json: bool) -> None:
    """Print a table, or the same as JSON."""
    if as_json:
        names = ("what", "value", "unit", "target", "met")
        print(json.dumps([dict(zip(names, row, strict=True)) for row in rows], indent=2))
        return
    for what, value, unit, target, met in rows:
        verdict = "" if met is None else ("met" if met else "MISSED")
        print(f"{what:58} {value:9.2f} {unit:4} {'' if target is None else target!s:>6} {verdict}")


if __name__ == "__main__":
    main()
