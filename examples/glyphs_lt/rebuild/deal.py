"""Step 6a: deal the font families to train, validation and test."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from alphafix.values.arrays import BoolArray

from .values import Face, Rendering

TIERS = ("train", "val", "test")
# Families of like size are dealt in blocks of eight, so that every split gets large and
# small ones in the same proportion.
BLOCK = ("test", "test", "val", "train", "train", "train", "train", "train")
# These cover nearly all of Unicode: in validation or test they alone would decide what
# the rare classes look like there.
ALWAYS_TRAIN = ("noto sans", "noto serif")


@dataclass(frozen=True)
class Stock:
    """The glyphs that samples can be taken from.

    Attributes:
        rows: (code point, split) -> rows of the rendering.
        families: M merged family names, one per glyph.
        open_rows: Glyphs of open-set code points in families not dealt to train.
    """

    rows: Mapping[tuple[int, str], Sequence[int]]
    families: Sequence[str]
    open_rows: Sequence[int]

    def count(self, code_point: int, split: str) -> int:
        """Return how many glyphs of a code point a split has."""
        return len(self.rows.get((code_point, split), ()))

    def total(self, code_point: int) -> int:
        """Return how many glyphs of a code point there are."""
        return sum(self.count(code_point, split) for split in TIERS)


def text_faces(faces: Sequence[Face], known: Sequence[int], min_coverage: int) -> BoolArray:
    """Find the faces that cover at least so many of the candidate code points."""
    candidates = frozenset(known)
    return np.array([len(candidates & face.code_points) >= min_coverage for face in faces])


def deal_families(
    sizes: Mapping[str, int], always_train: frozenset[str], generator: random.Random
) -> dict[str, str]:
    """Deal families to the splits.

    Args:
        sizes: Glyphs of each family that can be samples; none for a family of other
            scripts only, which gets a split at random.
        always_train: Families that are not dealt but given to train.
        generator: Source of chance.

    Returns:
        Family -> split.
    """
    ranked = sorted((f for f in sizes if sizes[f]), key=lambda f: (-sizes[f], f))
    splits: dict[str, str] = {}
    for start in range(0, len(ranked), len(BLOCK)):
        block = ranked[start : start + len(BLOCK)]
        generator.shuffle(block)
        splits.update(zip(block, BLOCK, strict=False))
    for family in sorted(sizes.keys() - splits.keys()):
        splits[family] = generator.choice(TIERS)
    return {f: "train" if f in always_train else split for f, split in splits.items()}


def take_stock(
    faces: Sequence[Face],
    rendering: Rendering,
    keep: BoolArray,
    merged: Mapping[str, str],
    min_coverage: int,
    generator: random.Random,
) -> Stock:
    """Deal the families and sort the kept glyphs of text faces by code point and split.

    Args:
        faces: All faces.
        rendering: M glyphs.
        keep: M booleans from cleaning.
        merged: Family group -> merged family.
        min_coverage: Candidate code points that a text face covers at least.
        generator: Source of chance.
    """
    face_families = [merged[face.group] for face in faces]
    families = [face_families[i] for i in rendering.face_ids]
    is_text = text_faces(faces, rendering.known.tolist(), min_coverage)
    is_known = np.isin(rendering.code_points, rendering.known)
    usable = np.flatnonzero(keep & is_known & is_text[rendering.face_ids])
    sizes = dict.fromkeys(face_families, 0) | Counter(families[row] for row in usable)
    always_train = frozenset(merged[g] for g in ALWAYS_TRAIN if g in merged)
    splits = deal_families(sizes, always_train, generator)
    rows = defaultdict(list)
    for row in usable.tolist():
        rows[int(rendering.code_points[row]), splits[families[row]]].append(row)
    unknown = np.flatnonzero(keep & np.isin(rendering.code_points, rendering.unknown)).tolist()
    open_rows = [row for row in unknown if splits[families[row]] != "train"]
    return Stock(rows, families, open_rows)
