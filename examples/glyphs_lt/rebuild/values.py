"""What passes between the stages: font faces and rendered glyphs, with their files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alphafix.values.arrays import ByteArray, FloatArray

RENDER_SIZE = 32
DESCRIPTOR_SIZE = 16

Ints = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Face:
    """One font face.

    Attributes:
        path: The font file.
        family: Family name as the font gives it.
        style: Style name, for example "Bold Italic".
        group: Family group, the first words of the family name; families of one foundry
            line ("Noto Sans Mono", "Noto Sans") share it.
        code_points: The characters that the face draws.
    """

    path: str
    family: str
    style: str
    group: str
    code_points: frozenset[int]

    @property
    def name(self) -> str:
        """Family and style."""
        return f"{self.family} / {self.style}"


@dataclass(frozen=True)
class Rendering:
    """M glyphs as images.

    Attributes:
        images: M x 32 x 32, uint8, ink is 255; memory-mapped when loaded.
        code_points: M code points.
        face_ids: M indices into the list of faces.
        known: Candidate code points of the classes.
        unknown: Code points of other scripts, for the open set.
    """

    images: ByteArray
    code_points: Ints
    face_ids: Ints
    known: Ints
    unknown: Ints

    def __len__(self) -> int:
        """Return the number of glyphs M."""
        return len(self.code_points)


def option(default: float, help_text: str) -> Any:
    """Declare a dataclass field that the command line turns into a flag."""
    return field(default=default, metadata={"help": help_text})


def save_faces(path: Path, faces: Iterable[Face]) -> None:
    """Write faces as JSON; the code points as ranges of first and last."""
    rows = [{**vars(face), "code_points": to_ranges(face.code_points)} for face in faces]
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")


def load_faces(path: Path) -> list[Face]:
    """Read faces from `save_faces`."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    return [Face(**{**row, "code_points": from_ranges(row["code_points"])}) for row in rows]


def to_ranges(code_points: Iterable[int]) -> list[list[int]]:
    """Turn a set of integers into sorted [first, last] pairs."""
    ranges: list[list[int]] = []
    for code_point in sorted(code_points):
        if ranges and code_point == ranges[-1][1] + 1:
            ranges[-1][1] = code_point
        else:
            ranges.append([code_point, code_point])
    return ranges


def from_ranges(ranges: Iterable[list[int]]) -> frozenset[int]:
    """Undo `to_ranges`."""
    return frozenset(c for first, last in ranges for c in range(first, last + 1))


def save_rendering(folder: Path, rendering: Rendering) -> None:
    """Write a rendering as one .npy file per array."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in vars(rendering).items():
        np.save(folder / f"{name}.npy", array)


def load_rendering(folder: Path) -> Rendering:
    """Read a rendering from `save_rendering`, its images memory-mapped."""
    names = ("code_points", "face_ids", "known", "unknown")
    arrays = {name: np.load(folder / f"{name}.npy") for name in names}
    return Rendering(images=np.load(folder / "images.npy", mmap_mode="r"), **arrays)


def shrink(images: ByteArray, size: int) -> FloatArray:
    """Average images down to ``size`` x ``size``.

    Args:
        images: M x S x S, uint8; S a multiple of ``size``.
        size: The new side.

    Returns:
        M x size x size, float32 in [0, 255].
    """
    step = images.shape[1] // size
    blocks = images.reshape(len(images), size, step, size, step)
    means: FloatArray = blocks.mean(axis=(2, 4), dtype=np.float32)
    return means


def describe(images: ByteArray) -> FloatArray:
    """Return M x 256 descriptors in [0, 1]: the pixels at 16 x 16.

    In chunks, so that memory-mapped images are never in memory as a whole.
    """
    descriptors = np.empty((len(images), DESCRIPTOR_SIZE**2), np.float32)
    for start in range(0, len(images), 50_000):
        small = shrink(images[start : start + 50_000], DESCRIPTOR_SIZE) / 255
        descriptors[start : start + len(small)] = small.reshape(len(small), -1)
    return descriptors


def squared_distances(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return the matrix of squared Euclidean distances between the rows of two arrays."""
    norms = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1)[None]
    distances: FloatArray = np.maximum(norms - 2 * first @ second.T, 0)
    return distances
