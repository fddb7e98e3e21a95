"""Step 6: build the data set from the cleaned glyphs, at 32 x 32."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from alphafix.values.arrays import BoolArray, FloatArray

from .classes import BuildOptions, choose_classes, order_by_tail, tail_counts
from .deal import TIERS, Stock, take_stock
from .values import Face, Ints, Rendering, describe

Arrays = dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]


def build(
    faces: Sequence[Face],
    rendering: Rendering,
    keep: BoolArray,
    merged: Mapping[str, str],
    shares: Mapping[tuple[int, int], float],
    options: BuildOptions,
) -> Arrays:
    """Build the arrays of the data set.

    Args:
        faces: All faces.
        rendering: M glyphs.
        keep: M booleans from cleaning.
        merged: Family group -> merged family.
        shares: Pair of code points -> share of faces that draw both the same.
        options: What is wanted.

    Returns:
        ``{train,val,test}_{x,y,face}``, ``open_x``, ``open_cp``, ``classes``, ``natural``,
        ``face_name`` and ``face_group``, as described in the README.
    """
    generator = random.Random(options.seed)
    stock = take_stock(faces, rendering, keep, merged, options.min_coverage, generator)
    compared = sorted({code_point for pair in shares for code_point in pair})
    means = class_means(rendering, compared)
    classes = choose_classes(stock, means, shares, options, generator)
    counts = tail_counts(options)
    classes = order_by_tail(classes, counts, stock, generator)
    sizes = {
        "train": counts,
        "val": [options.val] * len(classes),
        "test": [options.test] * len(classes),
    }
    arrays: Arrays = {
        "classes": np.array(classes, np.int32),
        "natural": np.array([stock.total(c) for c in classes], np.int32),
    }
    for split in TIERS:
        rows, labels = sample_split(stock, split, classes, sizes[split], generator)
        arrays[f"{split}_x"], arrays[f"{split}_y"] = rendering.images[rows], labels
        arrays[f"{split}_face"] = rendering.face_ids[rows]
    open_rows = spread(stock.open_rows, stock.families, options.open, generator)
    arrays["open_x"] = rendering.images[open_rows]
    arrays["open_cp"] = rendering.code_points[open_rows]
    return number_faces(arrays, faces, merged)


def class_means(rendering: Rendering, code_points: Sequence[int]) -> dict[int, FloatArray]:
    """Compute the mean descriptor of each code point."""
    descriptors = describe(rendering.images)
    return {c: descriptors[rendering.code_points == c].mean(axis=0) for c in code_points}


def sample_split(
    stock: Stock,
    split: str,
    classes: Sequence[int],
    sizes: Sequence[int],
    generator: random.Random,
) -> tuple[list[int], Ints]:
    """Take the samples of every class for one split.

    Returns:
        N rows of the rendering, and N class ids.
    """
    rows: list[int] = []
    labels: list[int] = []
    for label, (code_point, size) in enumerate(zip(classes, sizes, strict=True)):
        chosen = spread(stock.rows[code_point, split], stock.families, size, generator)
        rows += chosen
        labels += [label] * len(chosen)
    return rows, np.array(labels, np.int16)


def spread(
    rows: Sequence[int], families: Sequence[str], size: int, generator: random.Random
) -> list[int]:
    """Take up to ``size`` rows over as many families as there are: one of each in turn."""
    by_family = defaultdict(list)
    for row in rows:
        by_family[families[row]].append(row)
    names = sorted(by_family)
    generator.shuffle(names)
    for name in names:
        generator.shuffle(by_family[name])
    depth = max(map(len, by_family.values()), default=0)
    turns = [by_family[n][turn] for turn in range(depth) for n in names if turn < len(by_family[n])]
    return turns[:size]


def number_faces(arrays: Arrays, faces: Sequence[Face], merged: Mapping[str, str]) -> Arrays:
    """Renumber the faces in use from 0 and add their names and merged families."""
    used = np.unique(np.concatenate([arrays[f"{split}_face"] for split in TIERS]))
    numbered = dict(arrays)
    for split in TIERS:
        numbered[f"{split}_face"] = np.searchsorted(used, arrays[f"{split}_face"]).astype(np.int16)
    numbered["face_name"] = np.array([faces[int(i)].name for i in used])
    numbered["face_group"] = np.array([merged[faces[int(i)].group] for i in used])
    return numbered
