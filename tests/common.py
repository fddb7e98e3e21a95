"""Small real problems that the tests share."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alphafix.features.writer import FeatureWriter
from alphafix.run.directory import CLASSES, HEAD, Provenance, Run
from alphafix.values.arrays import FloatArray, IntArray
from alphafix.values.classes import ClassTable
from alphafix.values.head import Head


@dataclass(frozen=True)
class Problem:
    """A long-tailed classification problem in feature space, with a head fitted to it."""

    classes: ClassTable
    head: Head
    features: dict[str, FloatArray]
    labels: dict[str, IntArray]


def make_problem(
    *, num_classes: int = 12, width: int = 8, seed: int = 0, bias: bool = True, spread: float = 1.0
) -> Problem:
    """Gaussian classes; the last quarter are few-split (5 samples), the rest 30 to 150.

    The head is the one of linear discriminant analysis with the training priors: good on
    frequent classes and poor on rare ones, as trained heads are.
    """
    rng = np.random.default_rng(seed)
    few = max(1, num_classes // 4)
    counts = np.r_[np.linspace(150, 30, num_classes - few).astype(int), np.full(few, 5)]
    centers = rng.normal(size=(num_classes, width))
    sizes = {"train": counts, "val": np.full(num_classes, 10), "test": np.full(num_classes, 20)}
    features, labels = {}, {}
    for split, size in sizes.items():
        labels[split] = np.repeat(np.arange(num_classes), size).astype(np.int64)
        noise = spread * rng.normal(size=(len(labels[split]), width))
        features[split] = (centers[labels[split]] + noise).astype(np.float32)
    means = np.stack([features["train"][labels["train"] == c].mean(0) for c in range(num_classes)])
    weight = (means / spread**2).astype(np.float32)
    biases = (np.log(counts / counts.sum()) - 0.5 * (means * weight).sum(1)).astype(np.float32)
    return Problem(
        classes=ClassTable(tuple(f"class {c}" for c in range(num_classes)), counts),
        head=Head(weight, biases if bias else None),
        features=features,
        labels=labels,
    )


def heed_interrupts() -> None:
    """For ``preexec_fn``: a shell's background jobs are born deaf to SIGINT, and pass it on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def write_run(
    folder: Path, problem: Problem, *, splits: tuple[str, ...] = (), data: str | None = None
) -> Run:
    """Write what `alphafix extract` leaves: classes, head and features (all splits by default).

    ``data`` is where it says that the images are.
    """
    run = Run(folder)
    options = {} if data is None else {"data": data}
    provenance = Provenance(stage="extract", options=options, inputs={}).to_dict()
    problem.classes.save(run.path(CLASSES))
    problem.head.save(run.path(HEAD), provenance=provenance)
    for split in splits or tuple(problem.features):
        writer = FeatureWriter(run.features(split), num_classes=len(problem.classes))
        ids = [f"{split}/{i}" for i in range(len(problem.labels[split]))]
        writer.add(problem.features[split], problem.labels[split], ids)
        writer.finish({"split": split, "provenance": provenance})
    return run
