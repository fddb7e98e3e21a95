"""Random changes of training images, the same ones for the same seed of a sample.

Photographs are changed one by one when they are decoded (`PhotoAugmentation`, in loading
processes); small images by the batch, on the model's device (`BatchAugmentation`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from alphafix.oltr.training.sampling import SeedArray, uniforms

# Brightness, contrast and saturation vary by this much (OLTR, appendix D.2; no hue).
JITTER = 0.4


@dataclass(frozen=True)
class BatchAugmentation:
    """Shift, scale, stretch, slant and mirror every image of a batch.

    Attributes:
        shift: Largest shift, as a part of the image's side.
        scale: Largest relative change of size.
        stretch: Largest relative change of width against height.
        slant: Largest shear.
        mirror: Whether half of the images are mirrored.
        whole_pixels: Whether shifts are whole pixels, so that nothing is interpolated.
    """

    shift: float = 0.0
    scale: float = 0.0
    stretch: float = 0.0
    slant: float = 0.0
    mirror: bool = False
    whole_pixels: bool = False

    def __call__(self, images: Tensor, seeds: SeedArray) -> Tensor:
        """Change the images; what moves in at the border is black.

        Args:
            images: B x channels x H x W, float32 in [0, 255].
            seeds: uint64 of shape B.
        """
        drawn = torch.from_numpy(uniforms(seeds, 6)).to(images.device)
        both = 2 * drawn - 1
        size = 1 + self.scale * both[:, 0]
        stretch = 1 + self.stretch * both[:, 1]
        transform = images.new_zeros(len(images), 2, 3)
        transform[:, 0, 0] = size * stretch
        transform[:, 1, 1] = size / stretch
        transform[:, 0, 1] = self.slant * both[:, 2]
        transform[:, :, 2] = self._shifts(both[:, 3:5], images.shape[-2:])
        if self.mirror:
            transform[:, 0] *= torch.where(drawn[:, 5] < 0.5, -1.0, 1.0)[:, None]
        grid = functional.affine_grid(transform, list(images.shape), align_corners=False)
        return functional.grid_sample(images, grid, align_corners=False)

    def _shifts(self, both: Tensor, size: tuple[int, ...]) -> Tensor:
        """Shifts of x and y, where the image is 2 wide and high, B x 2."""
        if not self.whole_pixels:
            return 2 * self.shift * both
        sides = both.new_tensor([size[1], size[0]])
        pixels = torch.round(self.shift * sides)
        # Every whole shift from -pixels to pixels is equally likely.
        return 2 * torch.floor((both + 1) / 2 * (2 * pixels + 1)).sub(pixels) / sides


BATCH_AUGMENTATIONS: dict[str, BatchAugmentation] = {
    # Crops of 32 x 32 after padding by 4 pixels, and mirroring: the usual one of CIFAR.
    "cifar": BatchAugmentation(shift=4 / 32, mirror=True, whole_pixels=True),
    # For glyphs and digits, which mirroring would make into others.
    "small": BatchAugmentation(shift=0.05, scale=0.12, stretch=0.08, slant=0.15),
}


@dataclass(frozen=True)
class PhotoAugmentation:
    """The random crop, mirroring and jitter of the OLTR paper or of its code.

    Attributes:
        kind: "paper" (resize to ``resize`` x ``resize``, crop) or "official" (crop of random
            size and shape, resized).
        resize: Side before the crop.
        size: Side of the model's input.
    """

    kind: str
    resize: int
    size: int

    def __call__(self, image: Image.Image, seed: int) -> Tensor:
        """Map an RGB or grey image to channels x size x size, uint8."""
        from torchvision.transforms import functional as images

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            changed = self._transform()(image)
        pixels: Tensor = images.pil_to_tensor(changed)
        return pixels

    def _transform(self) -> Callable[[Image.Image], Image.Image]:
        from torchvision import transforms

        crop: list[Any] = [transforms.RandomResizedCrop(self.size)]
        if self.kind == "paper":
            square = transforms.Resize((self.resize, self.resize))
            crop = [square, transforms.RandomCrop(self.size)]
        changes: Callable[[Image.Image], Image.Image] = transforms.Compose(
            [
                *crop,
                transforms.RandomHorizontalFlip(),
                transforms.ColorJitter(JITTER, JITTER, JITTER, 0),
            ]
        )
        return changes
