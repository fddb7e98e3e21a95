"""What makes a model's input of an image when nothing is random, as config.json has it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ImageTransform:
    """Scale, cut out the centre, and later subtract the mean and divide by the deviation.

    Attributes:
        channels: 3 (RGB) or 1 (grey).
        resize: Length of the shorter side (of both sides, with ``square``) after scaling.
        size: Side of the centre that is cut out.
        square: Whether images are scaled to a square first (the OLTR paper).
        mean: Mean of each channel, for values from 0 to 1.
        std: Standard deviation of each channel, likewise.
    """

    channels: int = 3
    resize: int = 256
    size: int = 224
    square: bool = False
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __call__(self, image: Image.Image) -> Tensor:
        """Map an RGB image to channels x size x size, uint8."""
        from torchvision.transforms import functional

        image = self.of_channels(image)
        target = [self.resize, self.resize] if self.square else [self.resize]
        if image.size != (self.resize, self.resize):
            image = functional.resize(image, target, antialias=True)
        if image.size != (self.size, self.size):
            image = functional.center_crop(image, [self.size, self.size])
        return (
            torch.from_numpy(np.array(image, dtype=np.uint8))
            .reshape(self.size, self.size, self.channels)
            .permute(2, 0, 1)
        )

    def of_channels(self, image: Image.Image) -> Image.Image:
        """The image in grey, for a model of one channel."""
        return image.convert("L") if self.channels == 1 else image

    def normalize(self, images: Tensor) -> Tensor:
        """Map B x channels x H x W in [0, 255] to float32 (the same as (x / 255 - mean) / std)."""
        shape = (1, -1, 1, 1)
        mean = torch.tensor(self.mean, device=images.device).view(shape) * 255
        std = torch.tensor(self.std, device=images.device).view(shape) * 255
        return images.float().sub(mean).div(std)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}
