"""Pictures as folders of images: thing by thing, so that no thing is in two splits.

The folders are train/ and test/. Of the latter, validation and test are drawn anew each time, a
whole motif at a time, so that what a picture shows is never in two of the three.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import timm
import torch
from arguments import optional
from PIL import Image
from torch import Tensor

from alphafix.values.arrays import IntArray

BATCH = 64


@dataclass(frozen=True)
class Motif:
    """One thing that is shown, in the pictures of several designers.

    Attributes:
        name: Its name, for file names.
        label: Its class.
        draw: By designer: gives the picture.
    """

    name: str
    label: str
    draw: Mapping[str, Callable[[], Image.Image]] = field(repr=False)


@dataclass(frozen=True)
class Source:
    """Where the features of a data set come from.

    Attributes:
        data: Folder with train/, test/ and maybe open/.
        size: Pixels of the network's input.
    """

    data: Path
    size: int

    @property
    def classes(self) -> list[str]:
        """Names of the classes, sorted."""
        return sorted(path.name for path in (self.data / "train").iterdir())

    def listed(self, split: str) -> tuple[list[Path], IntArray]:
        """Files and labels of a split, in order."""
        files = sorted((self.data / split).glob("*/*.png"))
        names = self.classes
        return files, np.array([names.index(path.parent.name) for path in files], dtype=np.int64)


def divide(motifs: Sequence[Motif], folder: Path, *, least: int, seed: int = 0) -> None:
    """Write train/CLASS/NAME--DESIGNER.png and test/...: half of each class's motifs each.

    Args:
        motifs: All.
        folder: Where to.
        least: Classes of fewer motifs are in open/, as of no known class.
        seed: Decides which half.
    """
    rng = np.random.default_rng(seed)
    by_class: dict[str, list[Motif]] = {}
    for motif in motifs:
        by_class.setdefault(motif.label, []).append(motif)
    for label, mine in sorted(by_class.items()):
        order = rng.permutation(len(mine))
        for place, one in enumerate(order):
            known = "train" if place < len(mine) // 2 else "test"
            write(mine[one], folder / (known if len(mine) >= least else "open") / label)


def write(motif: Motif, folder: Path) -> None:
    """Write the pictures of a motif."""
    folder.mkdir(parents=True, exist_ok=True)
    for designer, draw in motif.draw.items():
        draw().save(folder / f"{motif.name}--{designer}.png")


def on_white(image: Image.Image, size: int) -> Image.Image:
    """Without transparency, ``size`` pixels wide and high."""
    whole = image.convert("RGBA")
    if whole.size != (size, size):
        whole = whole.resize((size, size), Image.Resampling.BICUBIC)
    white = Image.new("RGBA", whole.size, "white")
    return Image.alpha_composite(white, whole).convert("RGB")


def drawn(svg: str, size: int) -> Image.Image:
    """A drawing (SVG) on white, ``size`` pixels wide and high."""
    resvg_py = optional("resvg_py", "resvg-py")
    data = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size))
    with Image.open(io.BytesIO(data)) as image:
        return on_white(image, size)


def read(files: Sequence[Path], size: int) -> Tensor:
    """Pictures as the network takes them: N x 3 x size x size in -1..1, as timm scales them."""
    made = timm.data.create_transform(
        (3, size, size), interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3, crop_pct=1.0
    )
    found = []
    for path in files:
        with Image.open(path) as image:
            found.append(made(image.convert("RGB")))
    return torch.stack(found)
