"""Transforms from a timm data config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image
from torch import Tensor

from alphafix.models.preprocess import (
    Normalization,
    Overrides,
    Preprocess,
    ResizeCrop,
    Transform,
    require_channels,
    resize_of,
)


@dataclass(frozen=True)
class Grey:
    """A transform of images that are made grey first.

    Attributes:
        transform: What follows.
    """

    transform: Transform

    def __call__(self, image: Image.Image) -> Tensor:
        """Map an RGB image to 1 x H x W."""
        return self.transform(image.convert("L"))


def from_timm_config(
    config: Mapping[str, Any], overrides: Overrides, *, origin: str, channels: int | None = None
) -> Preprocess:
    """Make the evaluation transform of a timm model.

    Args:
        config: The model's ``pretrained_cfg`` or ``default_cfg``.
        overrides: What the user wants otherwise.
        origin: Where the config comes from, for the record.
        channels: How many channels the model takes, where the config does not say it.

    Raises:
        InputError: If mean or standard deviation is not that of as many channels.
    """
    from timm.data.config import resolve_data_config
    from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    from timm.data.transforms_factory import create_transform

    args = dict(overrides.given)
    size = args.pop("image_size", None)
    if size is not None:
        args["img_size"] = size
    own = tuple(config.get("input_size") or (3, 224, 224))
    args["in_chans"] = channels or own[0]
    given = [
        args.get(key) or config.get(key) or default
        for key, default in (("mean", IMAGENET_DEFAULT_MEAN), ("std", IMAGENET_DEFAULT_STD))
    ]
    require_channels(args["in_chans"], *given)
    resolve: Any = resolve_data_config
    config = {**config, "input_size": (args["in_chans"], *own[1:])}
    resolved: dict[str, Any] = resolve(args, pretrained_cfg=config)
    # Images stay uint8, to be normalised on the device.
    transform = create_transform(**resolved, normalize=False)
    record = {key: list(v) if isinstance(v, tuple) else v for key, v in resolved.items()}
    _, height, width = resolved["input_size"]
    if resolved["crop_mode"] == "center" and height == width:
        record["resize"] = resize_of((height, width), resolved["crop_pct"])
    return Preprocess(
        transform=Grey(transform) if resolved["input_size"][0] == 1 else transform,
        normalize=Normalization(tuple(resolved["mean"]), tuple(resolved["std"])),
        geometry=_geometry(resolved),
        record={"origin": origin, **record},
        made_for=(own[1], own[2]),
    )


def _geometry(resolved: Mapping[str, Any]) -> ResizeCrop | None:
    """The transform as a `ResizeCrop` where it is one."""
    channels, height, width = resolved["input_size"]
    plain = channels == 3 and height == width and resolved["crop_mode"] == "center"
    if not plain or resolved["interpolation"] not in ("bilinear", "bicubic"):
        return None
    size = (height, width)
    return ResizeCrop(resize_of(size, resolved["crop_pct"]), size, resolved["interpolation"])
