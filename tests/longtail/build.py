"""Folders of tiny images for the tests of lists."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from alphafix.commands.make_lt.options import MakeLtOptions
from alphafix.commands.make_lt.work import MadeLists, make_lists

LETTERS = tuple("abcdefgh")


def class_folders(root: Path, sizes: Mapping[str, int]) -> Path:
    """Write ``sizes`` images a class, each of a colour of its own."""
    for label, (name, size) in enumerate(sizes.items()):
        (root / name).mkdir(parents=True)
        for index in range(size):
            color = np.full((2, 2, 3), (label, index % 256, index // 256), dtype=np.uint8)
            Image.fromarray(color).save(root / name / f"{index:03d}.png")
    return root


def letters(root: Path, size: int = 40) -> Path:
    """Eight classes of the same size."""
    return class_folders(root, dict.fromkeys(LETTERS, size))


def made(data: Path, output: Path, **options: object) -> MadeLists:
    """Lists with small balanced ones, unless the options say otherwise."""
    settings = {"val": 3, "test": 4, "max_images": 20, **options}
    return make_lists(MakeLtOptions.model_validate({"data": data, "output": output, **settings}))


def lines(folder: Path, split: str) -> list[tuple[str, int]]:
    """Path and label of each line of a list."""
    rows = (folder / f"{split}.txt").read_text(encoding="utf-8").splitlines()
    return [(path, int(label)) for path, _, label in (row.rpartition(" ") for row in rows)]
