"""Transforms from a timm data config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alphafix.models.preprocess import (
    Normalization,
    Overrides,
    Preprocess,
    ResizeCrop,
    resize_of,
)


def from_timm_config(config: Mapping[str, Any], overrides: Overrides, *, origin: str) -> Preprocess:
    """Make the evaluation transform of a timm model.

    Args:
        config: The model's ``pretrained_cfg`` or ``default_cfg``.
        overrides: What the user wants otherwise.
        origin: Where the config comes from, for the record.
    """
    from timm.data.config import resolve_data_config
    from timm.data.transforms_factory import create_transform

    args = dict(overrides.given)
    size = args.pop("image_size", None)
    if size is not None:
        args["img_size"] = size
    resolve: Any = resolve_data_config
    resolved: dict[str, Any] = resolve(args, pretrained_cfg=dict(config))
    # Images stay uint8, to be normalised on the device.
    transform = create_transform(**resolved, normalize=False)
    record = {key: list(v) if isinstance(v, tuple) else v for key, v in resolved.items()}
    return Preprocess(
        transform=transform,
        normalize=Normalization(tuple(resolved["mean"]), tuple(resolved["std"])),
        geometry=_geometry(resolved),
        record={"origin": origin, **record},
    )


def _geometry(resolved: Mapping[str, Any]) -> ResizeCrop | None:
    """The transform as a `ResizeCrop` where it is one."""
    channels, height, width = resolved["input_size"]
    plain = channels == 3 and height == width and resolved["crop_mode"] == "center"
    if not plain or resolved["interpolation"] not in ("bilinear", "bicubic"):
        return None
    size = (height, width)
    return ResizeCrop(resize_of(size, resolved["crop_pct"]), size, resolved["interpolation"])
