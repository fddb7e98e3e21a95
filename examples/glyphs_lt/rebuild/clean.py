"""Step 3: drop the glyphs that do not show their code point, and copies."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np

from alphafix.values.arrays import BoolArray, FloatArray

from .values import Rendering, describe, squared_distances

# Characters that look alike in no text face, in either case.
CHECKED = np.array([ord(c) for c in "ABDEFGHKLMNQRTabdefghkmnqrt2345679"], np.int32)
MIN_CHECKED = 15
MIN_READABLE = 0.30


def clean(rendering: Rendering) -> BoolArray:
    """Decide which glyphs to keep.

    Returns:
        M booleans, false for the glyphs of unreadable faces, glyphs that their face draws
        for another code point too (small capitals, shared letters), and exact copies.
    """
    keep = ~unreadable_faces(rendering, describe(rendering.images))[rendering.face_ids]
    hashes = [hash(image.tobytes()) for image in rendering.images]
    _drop_repeats_in_faces(rendering, hashes, keep)
    _drop_copies(rendering, hashes, keep)
    return keep


def unreadable_faces(rendering: Rendering, descriptors: FloatArray) -> BoolArray:
    """Find the faces whose letters are read wrong by their nearest class mean.

    Args:
        rendering: M glyphs.
        descriptors: M x 256.

    Returns:
        One boolean per face: fewer than 30% of at least 15 letters were right.
    """
    rows = np.flatnonzero(np.isin(rendering.code_points, CHECKED))
    present = np.unique(rendering.code_points[rows])
    faces = int(rendering.face_ids.max(initial=-1)) + 1
    if not len(present):
        return np.zeros(faces, np.bool_)
    means = np.stack([descriptors[rendering.code_points == c].mean(axis=0) for c in present])
    nearest = present[squared_distances(descriptors[rows], means).argmin(axis=1)]
    right = nearest == rendering.code_points[rows]
    checked = np.bincount(rendering.face_ids[rows], minlength=faces)
    readable = np.bincount(rendering.face_ids[rows], weights=right, minlength=faces)
    unreadable: BoolArray = (checked >= MIN_CHECKED) & (readable < MIN_READABLE * checked)
    return unreadable


def _drop_repeats_in_faces(rendering: Rendering, hashes: list[int], keep: BoolArray) -> None:
    counts = Counter(rendering.code_points.tolist())
    same = defaultdict(list)
    for row in np.flatnonzero(keep):
        same[int(rendering.face_ids[row]), hashes[row]].append(int(row))
    for rows in same.values():
        if len(rows) > 1:
            code_points = rendering.code_points[rows].tolist()
            winner = preferred(code_points, counts)
            keep[[r for r, c in zip(rows, code_points, strict=True) if c != winner]] = False


def preferred(code_points: list[int], counts: Counter[int]) -> int:
    """Choose which of several code points an image shows.

    Capitals go before their small letters, since the face has small capitals; then the
    more frequent code point, then the lower one.
    """
    characters = {chr(c) for c in code_points}
    capitals = [c for c in code_points if not characters & ({chr(c).upper()} - {chr(c)})]
    return min(capitals, key=lambda c: (-counts[c], c))


def _drop_copies(rendering: Rendering, hashes: list[int], keep: BoolArray) -> None:
    seen: set[tuple[int, int]] = set()
    for row in np.flatnonzero(keep):
        key = int(rendering.code_points[row]), hashes[row]
        keep[row] = key not in seen
        seen.add(key)
