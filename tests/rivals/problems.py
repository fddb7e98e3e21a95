"""Small data for the tests of rivals."""

from __future__ import annotations

import numpy as np

from alphafix.features.store import FeatureStore
from alphafix.metrics.limits import Limits
from alphafix.rivals.data import FitData
from alphafix.values.arrays import FloatArray, IntArray
from alphafix.values.classes import ClassTable
from alphafix.values.head import Head
from tests.common import make_problem


def small_data(
    *,
    drop: float = 50.0,
    confidence: float = 0.5,
    scale: float = 1.0,
    bias: bool = True,
    num_classes: int = 12,
    width: int = 8,
) -> FitData:
    """The problem of `make_problem` as data."""
    problem = make_problem(num_classes=num_classes, width=width, spread=1.2, bias=bias)
    head = problem.head
    bias_array = None if head.bias is None else head.bias / np.float32(scale)
    return FitData(
        FeatureStore.of(problem.features["train"], problem.labels["train"]),
        FeatureStore.of(problem.features["val"], problem.labels["val"]),
        Head(head.weight / np.float32(scale), bias_array, scale),
        problem.classes,
        Limits(drop, confidence=confidence),
    )


def data_of(
    features: FloatArray,
    labels: IntArray,
    head: Head,
    *,
    val: tuple[FloatArray, IntArray] | None = None,
    drop: float = 100.0,
) -> FitData:
    """FitData of given arrays; the classes' counts are those of the labels."""
    counts = np.bincount(labels, minlength=head.num_classes)
    names = tuple(f"c{i}" for i in range(head.num_classes))
    return FitData(
        FeatureStore.of(features, labels, num_classes=head.num_classes),
        FeatureStore.of(*(val or (features, labels)), num_classes=head.num_classes),
        head,
        ClassTable(names, counts),
        Limits(drop, confidence=0.5),
    )
