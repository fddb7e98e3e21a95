"""GlyphNet: the small residual network that is the demonstration's base model.

Use it as a backbone with ``--backbone python:alphafix.demo.model:glyph_net``; the
weights that ship beside it are strict matches of its state dict. Shapes: N images,
C classes, D feature width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

IMAGE_SIZE = 16
NUM_CLASSES = 300
NUM_FEATURES = 64
WIDTHS = (24, 48, 96)

# About the mean and the standard deviation of a glyph's pixels in [0, 1], rounded: the
# weights depend on these exact values.
PIXEL_MEAN = 0.25
PIXEL_STD = 0.35


def normalize(images: Tensor) -> Tensor:
    """Scale grey images to the network's input range.

    Args:
        images: N x 16 x 16, uint8, ink is 255.

    Returns:
        N x 1 x 16 x 16, float32.
    """
    return (images.unsqueeze(1).float() / 255 - PIXEL_MEAN) / PIXEL_STD


@dataclass(frozen=True)
class GlyphTransform:
    """Turn a PIL image into the network's input, as in training.

    A class rather than a closure, so that data-loader workers can unpickle it.
    """

    size: int = IMAGE_SIZE

    def __call__(self, image: Image.Image) -> Tensor:
        """Convert one image, resized to ``size`` if need be.

        Args:
            image: A glyph in any mode, light ink on a dark ground.

        Returns:
            1 x 16 x 16, float32.
        """
        grey = image.convert("L")
        if grey.size != (self.size, self.size):
            grey = grey.resize((self.size, self.size), Image.Resampling.BOX)
        pixels = torch.from_numpy(np.array(grey, dtype=np.uint8))
        return normalize(pixels.unsqueeze(0)).squeeze(0)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut (He et al. 2016, basic block)."""

    def __init__(self, in_width: int, out_width: int, stride: int) -> None:
        """Create a block that maps ``in_width`` channels to ``out_width``."""
        super().__init__()
        self.conv1 = nn.Conv2d(in_width, out_width, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_width)
        self.conv2 = nn.Conv2d(out_width, out_width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_width != out_width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_width, out_width, 1, stride, bias=False),
                nn.BatchNorm2d(out_width),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map N x in_width x H x W to N x out_width x H/stride x W/stride."""
        residual = functional.relu(self.norm1(self.conv1(x)))
        residual = self.norm2(self.conv2(residual))
        return functional.relu(residual + self.shortcut(x))


class GlyphNet(nn.Module):
    """A 5x5 stem, three residual blocks and a linear head.

    Attributes:
        fc: The head, C x D weight and C biases.
        num_features: The feature width D.
        transform: PIL image -> 1 x 16 x 16 tensor, as in training.
    """

    def __init__(self, num_classes: int = NUM_CLASSES) -> None:
        """Create a network with random weights."""
        super().__init__()
        first, second, third = WIDTHS
        self.stem = nn.Sequential(
            nn.Conv2d(1, first, 5, stride=2, padding=2, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(),
        )
        self.blocks = nn.Sequential(
            ResidualBlock(first, first, stride=1),
            ResidualBlock(first, second, stride=2),
            ResidualBlock(second, third, stride=2),
        )
        self.project = nn.Linear(third, NUM_FEATURES)
        self.fc = nn.Linear(NUM_FEATURES, num_classes)
        self.num_features = NUM_FEATURES
        self.transform = GlyphTransform()

    def get_classifier(self) -> nn.Linear:
        """Return the linear head (timm's convention)."""
        return self.fc

    def features(self, images: Tensor) -> Tensor:
        """Map N x 1 x 16 x 16 images to the N x D features that the head reads."""
        pooled = self.blocks(self.stem(images)).mean(dim=(2, 3))
        return functional.relu(self.project(pooled))

    def forward(self, images: Tensor) -> Tensor:
        """Map N x 1 x 16 x 16 images to N x C logits."""
        logits: Tensor = self.fc(self.features(images))
        return logits


def glyph_net() -> GlyphNet:
    """Create the demonstration's network, with random weights, for ``--backbone``."""
    return GlyphNet()
