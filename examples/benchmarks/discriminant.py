"""How long `lda` takes at ImageNet-LT's size, and what memory beside the features.

    python examples/benchmarks/discriminant.py [--json] [--samples 115846] [--width 2048]

Features are random, with class means; labels have ImageNet-LT's long tail of 1000 classes (1280
to 5). Everything is measured: means, the scatter, both shrinkages and the choice among all
settings on 20 validation samples a class, within a limit with 95% confidence.

The scatter alone is N D^2 = 4.9e11 multiplications and additions, of which its symmetry saves half;
all else is n C D = 4.1e10 for the logits, and as much for each shrinkage's scores. So the bare
product, `ssyrk` of as many rows in the same run, is what a machine needs at the least.
"""

from __future__ import annotations

import argparse
import json
import resource
import time

import numpy as np
import torch  # noqa: F401 (as `train` has it loaded by then, it is no part of fitting)
from counts import positive
from scipy.linalg.blas import ssyrk

from alphafix.features.features import FeatureArrays
from alphafix.features.scatter import ROWS
from alphafix.rivals import fit
from alphafix.rivals.data import FitData
from alphafix.values.arrays import FloatArray, IntArray
from alphafix.values.classes import ClassTable
from alphafix.values.head import Head

CLASSES, VAL_PER_CLASS = 1000, 20
CHUNK = 4096


def long_tail(samples: int) -> IntArray:
    """Counts of 1000 classes from 1280 down to 5, which add up to about ``samples``."""
    counts = np.geomspace(1280, 5, CLASSES)
    return np.asarray(np.maximum(5, counts * samples / counts.sum()), dtype=np.int64)


def draw(labels: IntArray, means: FloatArray, seed: int) -> FeatureArrays:
    """One feature a label, in float32 and in place."""
    rng = np.random.default_rng(seed)
    features = np.empty((len(labels), means.shape[1]), dtype=np.float32)
    for start in range(0, len(labels), CHUNK):
        part = slice(start, start + CHUNK)
        rng.standard_normal(dtype=np.float32, out=features[part])
        features[part] += means[labels[part]]
    return FeatureArrays(features, labels, tuple(map(str, range(len(labels)))), CLASSES)


def bare_product(train: FeatureArrays, base: IntArray) -> float:
    """Seconds of the product alone, of the base classes' rows as they are."""
    rows = np.flatnonzero(np.isin(train.labels, base))
    width = train.features.shape[1]
    total = np.zeros((width, width), dtype=np.float32, order="F")
    start = time.perf_counter()
    for place in range(0, len(rows), ROWS):
        part = train.features[place : place + len(rows[place : place + ROWS])]
        total = ssyrk(1.0, part.T, beta=1.0, c=total, overwrite_c=True, lower=True)
    return time.perf_counter() - start


def peak() -> float:
    """The most memory that this process has held yet, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--samples", type=positive, default=115_846)
    parser.add_argument("--width", type=positive, default=2048)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    means = rng.standard_normal((CLASSES, given.width)).astype(np.float32) * np.float32(0.1)
    labels = rng.permutation(np.repeat(np.arange(CLASSES), long_tail(given.samples)))
    train = draw(labels, means, 1)
    val = draw(np.repeat(np.arange(CLASSES), VAL_PER_CLASS), means, 2)
    classes = ClassTable.of(labels, num_classes=CLASSES)
    data = FitData(train, val, Head(means, None), classes)
    bare = bare_product(train, classes.base)
    before, start = peak(), time.perf_counter()
    found = fit("lda", data)
    seconds, more = time.perf_counter() - start, peak() - before
    rows = [
        ("samples", float(len(train)), "", None, None),
        ("fitting lda", seconds, "s", 15.0, seconds <= 15),
        ("the scatter's bare product", bare, "s", None, None),
        ("fitting lda against it", seconds / bare, "x", None, None),
        ("memory beside the features", more, "GB", 1.0, more <= 1),
        ("few-split accuracy on validation", found.val["few"] or 0.0, "%", None, None),
    ]
    if given.json:
        names = ("what", "value", "unit", "target", "met")
        print(json.dumps([dict(zip(names, row, strict=True)) for row in rows], indent=2))
        return
    for what, value, unit, target, met in rows:
        told = "" if target is None else f"  (target {target} {unit}: {'met' if met else 'missed'})"
        print(f"{what:34} {value:10.4g} {unit}{told}")


if __name__ == "__main__":
    main()
