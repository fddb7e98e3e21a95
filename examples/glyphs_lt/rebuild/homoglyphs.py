"""Step 5: find pairs of code points that fonts draw alike, such as Latin and Cyrillic A."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from alphafix.values.arrays import BoolArray, FloatArray, IntArray

from .values import Ints, Rendering, describe, squared_distances

# Mean squared pixel difference below which two glyphs of one face are the same.
SAME_GLYPH = 0.004
# Only the nearest code points by class mean can be homoglyphs.
CANDIDATES = 12
MIN_COMMON_FACES = 8
MAX_COMMON_FACES = 300

Shares = dict[tuple[int, int], float]


def frequent_code_points(rendering: Rendering, keep: BoolArray, min_samples: int) -> Ints:
    """Return the candidate code points that kept at least so many glyphs after cleaning."""
    code_points, counts = np.unique(rendering.code_points[keep], return_counts=True)
    return np.intersect1d(code_points[counts >= min_samples], rendering.known)


def homoglyph_shares(rendering: Rendering, code_points: Ints) -> Shares:
    """Measure for neighbouring code points in how many faces they look the same.

    All glyphs count, the dropped ones too: cleaning has dropped exactly those that a face
    draws for two code points.

    Args:
        rendering: M glyphs.
        code_points: The code points to compare.

    Returns:
        (lower, higher code point) -> share of the common faces in which both look the
        same; 1 where the faces in common are too few to tell.
    """
    descriptors = describe(rendering.images)
    rows = {int(c): np.flatnonzero(rendering.code_points == c) for c in code_points}
    means = np.stack([descriptors[rows[int(c)]].mean(axis=0) for c in code_points])
    return {
        pair: _share(rendering.face_ids, descriptors, rows[pair[0]], rows[pair[1]])
        for pair in _neighbours(code_points, means)
    }


def _neighbours(code_points: Ints, means: FloatArray) -> Iterator[tuple[int, int]]:
    distances = squared_distances(means, means)
    np.fill_diagonal(distances, np.inf)
    nearest = np.argsort(distances, axis=1)[:, :CANDIDATES]
    pairs = {
        (min(int(c), int(code_points[j])), max(int(c), int(code_points[j])))
        for c, row in zip(code_points, nearest, strict=True)
        for j in row
        if code_points[j] != c
    }
    yield from sorted(pairs)


def _share(face_ids: Ints, descriptors: FloatArray, first: IntArray, second: IntArray) -> float:
    common, in_first, in_second = np.intersect1d(
        face_ids[first], face_ids[second], return_indices=True
    )
    if len(common) < MIN_COMMON_FACES:
        return 1.0
    first, second = first[in_first[:MAX_COMMON_FACES]], second[in_second[:MAX_COMMON_FACES]]
    differences = ((descriptors[first] - descriptors[second]) ** 2).mean(axis=1)
    return float((differences < SAME_GLYPH).mean())
