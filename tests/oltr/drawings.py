"""Tiny long-tailed image sets, for trainings that take a second or two."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from alphafix.values.arrays import ByteArray

SIDE = 16
NAMES = ("apple", "bell", "cup", "door", "ear", "fork")
COUNTS = {"train": (40, 32, 26, 24, 8, 6), "val": (4,) * 6, "test": (5,) * 6}
OPEN = ("gate", "hat")

RECIPE = """\
backbone: small
size: 16
resize: 16
augmentation: small
stage1: {epochs: 2, lr: 0.05, batch: 16}
stage2: {epochs: 2, lr: 0.05, feature_lr: 0.01, batch: 16, drop_every: 1}
"""


def draw(kind: int, rng: np.random.Generator) -> ByteArray:
    """A noisy stripe whose place and direction tell its kind, SIDE x SIDE x 3."""
    image = rng.normal(30, 12, size=(SIDE, SIDE, 3))
    at = 2 + 3 * (kind // 2) + int(rng.integers(0, 2))
    stripe = (slice(at, at + 2), slice(None)) if kind % 2 else (slice(None), slice(at, at + 2))
    image[stripe] += 150
    image[..., kind % 3] += 40
    return image.clip(0, 255).astype(np.uint8)


def write_folders(folder: Path, *, seed: int = 0) -> Path:
    """DIR/SPLIT/CLASS/00.png, with two classes that only the split open has."""
    rng = np.random.default_rng(seed)
    for split, counts in COUNTS.items():
        for kind, (name, count) in enumerate(zip(NAMES, counts, strict=True)):
            _write(folder / split / name, kind, count, rng)
    for number, name in enumerate(OPEN):
        _write(folder / "open" / name, len(NAMES) + number, 6, rng)
    return folder


def _write(folder: Path, kind: int, count: int, rng: np.random.Generator) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(draw(kind, rng)).save(folder / f"{number:02d}.png")


def write_recipe(path: Path, text: str = RECIPE) -> Path:
    """A recipe file."""
    path.write_text(text)
    return path
