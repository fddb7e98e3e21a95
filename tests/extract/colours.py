"""A model that knows colours: right labels give high accuracy, wrong ones give themselves away."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

PALETTE = (
    *((230, 20, 20), (20, 230, 20), (20, 20, 230), (200, 200, 20), (200, 20, 200), (20, 200, 200)),
    *((120, 120, 120), (240, 140, 20), (60, 20, 90), (0, 90, 60), (90, 60, 0), (250, 250, 250)),
)
SIDE = 8


def _transform(image: Image.Image) -> Tensor:
    pixels = np.asarray(image.resize((SIDE, SIDE)), dtype=np.float32)
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255


class Colours(nn.Module):
    """The nearest colour: its features are the mean of the pixels.

    Args:
        count: Number of classes, the first colours of the palette.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        colours = torch.tensor(PALETTE[:count]).float() / 255
        self.fc = nn.Linear(3, count)
        self.fc.weight.data = 20 * colours
        self.fc.bias.data = -10 * colours.square().sum(dim=1)
        self.transform = _transform

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.fc(images.mean(dim=(2, 3)))
        return logits


def six() -> nn.Module:
    """For --backbone python:tests.extract.colours:six."""
    return Colours(6)


def twelve() -> nn.Module:
    """Twelve classes."""
    return Colours(12)


def picture(colour: int, number: int = 0) -> Image.Image:
    """An image of a class, each number another one."""
    rng = np.random.default_rng([colour, number])
    pixels = np.array(PALETTE[colour]) + rng.normal(0, 20, (SIDE, SIDE, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def write_pictures(folder: Path, names: Sequence[str], count: int = 4, ending: str = "png") -> None:
    """FOLDER/NAME/0.png and so on, the n-th name of the n-th colour."""
    for colour, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            picture(colour, number).save(folder / name / f"{number}.{ending}")
