"""Small material for the tests of rivals."""

from __future__ import annotations

import numpy as np

from alphafix.rivals.material import Material
from alphafix.values.arrays import FloatArray, IntArray
from alphafix.values.classes import ClassTable
from alphafix.values.head import Head
from tests.common import make_problem


def small_material(
    *,
    drop: float = 50.0,
    scale: float = 1.0,
    bias: bool = True,
    num_classes: int = 12,
    width: int = 8,
) -> Material:
    """The problem of `make_problem` as material."""
    problem = make_problem(num_classes=num_classes, width=width, spread=1.2, bias=bias)
    head = problem.head
    bias_array = None if head.bias is None else head.bias / np.float32(scale)
    return Material(
        problem.features["train"],
        problem.labels["train"],
        problem.features["val"],
        problem.labels["val"],
        Head(head.weight / np.float32(scale), bias_array, scale),
        problem.classes,
        max_overall_drop=drop,
    )


def material_of(
    features: FloatArray,
    labels: IntArray,
    head: Head,
    *,
    val: tuple[FloatArray, IntArray] | None = None,
    drop: float = 100.0,
) -> Material:
    """Material of given arrays; the classes' counts are those of the labels."""
    counts = np.bincount(labels, minlength=head.num_classes)
    names = tuple(f"c{i}" for i in range(head.num_classes))
    val_features, val_labels = (features, labels) if val is None else val
    table = ClassTable(names, counts)
    return Material(features, labels, val_features, val_labels, head, table, max_overall_drop=drop)
