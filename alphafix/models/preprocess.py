"""What makes a model's input of an image, and how that is recorded."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from alphafix.errors import InputError, call, option

Transform = Callable[[Image.Image], Tensor]


@dataclass(frozen=True)
class Normalization:
    """Scaling of uint8 images, done for a whole batch on the device.

    Attributes:
        mean: Mean of each channel, for values from 0 to 1.
        std: Standard deviation of each channel, likewise.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Tensor) -> Tensor:
        """Map N x channels x H x W uint8 to float32 (the same as (x / 255 - mean) / std)."""
        if images.is_contiguous(memory_format=torch.channels_last):
            return self._by_rows(images)
        shape = (1, -1, 1, 1)
        mean, std = self._levels(images.device)
        return images.float().sub_(mean.view(shape)).div_(std.view(shape))

    def _levels(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each channel, for values from 0 to 255."""
        mean = torch.tensor(self.mean, device=device) * 255
        return mean, torch.tensor(self.std, device=device) * 255

    def _by_rows(self, images: Tensor) -> Tensor:
        """The same of images in the layout channels_last.

        There the channels are innermost, and arithmetic that repeats every 3 values cannot be
        vectorised; over whole rows of pixels it takes a fifth of the time.
        """
        count, channels, height, width = images.shape
        mean, std = (level.repeat(width) for level in self._levels(images.device))
        rows = images.permute(0, 2, 3, 1).reshape(count * height, width * channels)
        scaled = rows.float().sub_(mean).div_(std)
        return scaled.view(count, height, width, channels).permute(0, 3, 1, 2)


# Where a transform is from that only flags describe.
FROM_FLAGS = "flags"


@dataclass(frozen=True)
class ResizeCrop:
    """The usual geometry: scale the shorter side, cut out the centre.

    Attributes:
        resize: Length of the shorter side after scaling.
        size: Height and width of the centre that is cut out.
        interpolation: "bilinear", "bicubic", "lanczos" or "nearest".
        channels: 3, or 1 for grey images.
    """

    resize: int
    size: tuple[int, int]
    interpolation: str = "bilinear"
    channels: int = 3

    def __call__(self, image: Image.Image) -> Tensor:
        """Map an RGB image to channels x H x W uint8."""
        from torchvision.transforms import functional

        if self.channels == 1:
            image = image.convert("L")
        scaled = functional.resize(image, [self.resize], self._mode(), antialias=True)
        cropped = functional.center_crop(scaled, list(self.size))
        pixels: Tensor = functional.pil_to_tensor(cropped)
        return pixels

    def on_tensor(self, image: Tensor) -> Tensor:
        """Map 3 x height x width uint8, on any device, to 3 x H x W uint8.

        Torch's antialiased resizing differs from Pillow's by rounding.
        """
        from torchvision.transforms import functional

        scaled = functional.resize(image, [self.resize], self._mode(), antialias=True)
        cropped: Tensor = functional.center_crop(scaled, list(self.size))
        return cropped

    def _mode(self) -> Any:
        from torchvision.transforms import InterpolationMode

        return InterpolationMode(self.interpolation)


@dataclass(frozen=True)
class Preprocess:
    """From an RGB image to the model's input.

    Attributes:
        transform: Gives channels x H x W of one image; uint8, or float32 if it is finished.
        normalize: What is left to do for uint8 images, or None.
        geometry: The transform as a `ResizeCrop`, if it is one: it can run on a GPU too.
        record: How it is written down in the manifest.
        made_for: Height and width of the input that the model was made for, if it says so.
    """

    transform: Transform
    normalize: Normalization | None
    geometry: ResizeCrop | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    made_for: tuple[int, int] | None = None

    def what_is_cut(self, overrides: Overrides) -> str | None:
        """What is cut off the images without the user's or the model's word for it, in a sentence.

        So it is where the size is one that the model was not made for, and where only flags
        describe the transform, but not the crop. None otherwise.

        Args:
            overrides: What the user said of the transform.
        """
        if self.record.get("origin") == FROM_FLAGS:
            return self._usual_crop(overrides)
        side, resize = overrides.image_size, self.record.get("resize")
        if side is None or resize is None or self.made_for in (None, (side, side)):
            return None
        own = " x ".join(map(str, self.made_for or ()))
        text = (
            f"images: the shorter side is scaled to {resize} pixels and the centre of {side} x "
            f"{side} is cut out; the backbone was made for {own}"
        )
        if overrides.crop_pct is not None or resize == side:
            return text
        whole = f"{option('crop_pct', 1)} scales to {side}, so that nothing is cut off"
        return f"{text}, and its own crop is kept ({whole} a square image)"

    def _usual_crop(self, overrides: Overrides) -> str | None:
        if overrides.crop_pct is not None or self.geometry is None:
            return None
        resize, side = self.geometry.resize, min(self.geometry.size)
        return (
            f"images: the shorter side is scaled to {resize} pixels and the centre of {side} x "
            f"{side} is cut out, as is usual on ImageNet ({option('crop_pct', 1)} scales to "
            f"{side}, so that nothing is cut off a square image)"
        )

    def finish(self, images: Tensor) -> Tensor:
        """Do what is left to do for a batch, on its device."""
        if images.dtype == torch.uint8 and self.normalize is not None:
            return self.normalize(images)
        return images


@dataclass(frozen=True)
class Overrides:
    """What the user says of the transform instead of the model's own data config.

    Attributes:
        image_size: Height and width of the input.
        crop_pct: Part of the scaled image's shorter side that is cut out.
        interpolation: How images are scaled.
        mean: Mean of each channel, of values from 0 to 1.
        std: Standard deviation of each channel, likewise.

    Raises:
        InputError: If a mean or a deviation is none of values from 0 to 1.
    """

    image_size: int | None = None
    crop_pct: float | None = None
    interpolation: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for name, values in (("mean", self.mean), ("std", self.std)):
            # Values are scaled to 0..1 before; no channel has another mean or deviation then.
            if values is not None and not all(
                0 <= v <= 1 and (name, v) != ("std", 0) for v in values
            ):
                raise InputError(
                    f"{option(name)} is not of values from 0 to 1",
                    got=", ".join(map(str, values)),
                    expected="numbers from 0 to 1" + (", none of them 0" if name == "std" else ""),
                    todo="divide numbers that are meant for pixels from 0 to 255 by 255",
                )

    @property
    def given(self) -> dict[str, Any]:
        """Those that were given, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def refuse(self, backbone: str) -> None:
        """Raise if any was given for a backbone whose transform is fixed.

        Raises:
            InputError: Naming them.
        """
        if self.given:
            raise InputError(
                f"the transform of {backbone} cannot be changed by flags",
                got=", ".join(map(option, self.given)),
                expected="the model's own transform",
                todo="leave these flags out, or change the transform in the model's code",
            )


def resize_crop(
    *,
    resize: int,
    size: tuple[int, int],
    interpolation: str,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    origin: str,
    channels: int = 3,
    made_for: tuple[int, int] | None = None,
) -> Preprocess:
    """Make a `Preprocess` of the usual geometry.

    Args:
        resize: Length of the shorter side after scaling.
        size: Height and width of the input.
        interpolation: How images are scaled.
        mean: Mean of each channel.
        std: Standard deviation of each channel.
        origin: Where these values come from, for the record.
        channels: 3, or 1 for grey images.
        made_for: See `Preprocess`.

    Raises:
        InputError: If mean or standard deviation is not that of as many channels.
    """
    require_channels(channels, mean, std)
    geometry = ResizeCrop(resize, size, interpolation, channels)
    record = {
        "origin": origin,
        "resize": resize,
        "size": list(size),
        "interpolation": interpolation,
        "mean": list(mean),
        "std": list(std),
    }
    if channels != 3:
        record["channels"] = channels
    # The decoder of a GPU gives three channels.
    fast = geometry if channels == 3 else None
    return Preprocess(geometry, Normalization(mean, std), fast, record, made_for)


def require_channels(channels: int, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """Check that images can have so many channels, and mean and standard deviation as many.

    Raises:
        InputError: If not.
    """
    if channels not in (1, 3):
        raise InputError(
            "the model takes images of another kind",
            got=f"{channels} channels",
            expected="3 (RGB) or 1 (grey)",
            todo="extract the features with your own code and give them as arrays: "
            f"{call('neighbors', features='FILE', head='FILE')}",
        )
    if {len(mean), len(std)} != {channels}:
        form = ",".join(["0.5"] * channels)
        raise InputError(
            "mean and standard deviation are not those of the model's channels",
            got=f"{len(mean)} and {len(std)} numbers",
            expected=f"{channels} of each, as in {option('mean', form)}",
            todo=f"give {option('mean')} and {option('std')} as the model was trained with",
        )


def resize_of(size: tuple[int, int], crop_pct: float) -> int:
    """Length of the shorter side before the centre is cut out (timm's rule)."""
    return math.floor(min(size) / crop_pct)


# ImageNet's usual evaluation transform, for what the flags leave open.
USUAL_CROP = 0.875
USUAL_INTERPOLATION = "bilinear"


def flags_to_give() -> str:
    """The flags that describe a transform, in the words of an error."""
    return (
        f"give {option('image_size')}, {option('mean')} and {option('std')} (and "
        f"{option('crop_pct')}, {option('interpolation')} if they are not {USUAL_CROP} and "
        f"{USUAL_INTERPOLATION})"
    )


def described(
    spec: str, overrides: Overrides, *, side: int | None = None, channels: int = 3
) -> Preprocess:
    """Return the transform that the flags describe, for a model that says little of its input.

    Args:
        spec: The model.
        overrides: The flags.
        side: Height and width of its input, if it says so.
        channels: The number of its channels.

    Raises:
        InputError: If not all of it is known.
    """
    given = overrides.given
    if side is not None:
        given.setdefault("image_size", side)
    missing = [key for key in ("image_size", "mean", "std") if key not in given]
    if missing:
        raise InputError(
            f"{spec} does not say how images become its input",
            got="no " + ", no ".join(map(option, missing)),
            expected="the transform that it was trained with",
            todo=flags_to_give(),
        )
    size = (given["image_size"], given["image_size"])
    return resize_crop(
        resize=resize_of(size, given.get("crop_pct", USUAL_CROP)),
        size=size,
        interpolation=given.get("interpolation", USUAL_INTERPOLATION),
        mean=given["mean"],
        std=given["std"],
        origin=FROM_FLAGS,
        channels=channels,
        made_for=None if side is None else (side, side),
    )
