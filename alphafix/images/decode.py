"""From bytes to an RGB image, or a clear reason why not."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from alphafix.images.source import BadImageError, Content
from alphafix.reading.boundary import special


def read_bytes(content: Path | bytes) -> bytes:
    """Read an encoded image.

    Raises:
        BadImageError: If the file cannot be read or is empty.
    """
    if isinstance(content, bytes):
        data = content
    else:
        if found := special(content):  # it would be waited for, or never end
            raise BadImageError(f"no file but {found}")
        try:
            data = content.read_bytes()
        except (OSError, ValueError) as error:  # ValueError: a name with NUL in it
            link = " (a broken link)" if os.path.islink(content) else ""
            raise BadImageError(f"{getattr(error, 'strerror', None) or error}{link}") from error
    if not data:
        raise BadImageError("the file is empty")
    return data


def decode(content: Content, *, exif_rotate: bool = False) -> Image.Image:
    """Decode an image to RGB, as torchvision and timm do in training: Pillow's ``convert("RGB")``.

    That is the one rule for every mode, because a model has to see an image as it did in training.
    Of an animation the first frame is taken; transparency is dropped; values of more than 8 bits
    (modes I, F and I;16: 16-bit PNG, TIFF and PGM) are cut to 0..255 (see `is_cut`); EXIF rotation
    is ignored unless asked for.

    Args:
        content: A file, its bytes, or an image.
        exif_rotate: Whether to turn the image as its EXIF data says.

    Raises:
        BadImageError: If it is no whole image, or one so large that it may be an attack.
    """
    return to_rgb(open_image(content, exif_rotate=exif_rotate))


def open_image(content: Content, *, exif_rotate: bool = False) -> Image.Image:
    """Decode an image in the mode that it has; see `decode`.

    Raises:
        BadImageError: If it is no whole image, or one so large that it may be an attack.
    """
    if isinstance(content, BadImageError):
        raise content
    if isinstance(content, Image.Image):
        return content
    data = read_bytes(content)
    try:
        with warnings.catch_warnings():
            # Pillow warns of large photographs and of EXIF or palette oddities; it still
            # refuses what is twice as large as its limit.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as image:
                image.load()
                return ImageOps.exif_transpose(image) if exif_rotate else image
    except UnidentifiedImageError as error:
        start = data[:8]
        raise BadImageError(f"no image format that Pillow knows (begins with {start!r})") from error
    except Image.DecompressionBombError as error:
        raise BadImageError(f"possibly a decompression bomb: {error}") from error
    # Pillow's decoders raise many types for damaged files (SyntaxError, struct.error, ...).
    except Exception as error:
        raise BadImageError(f"{type(error).__name__}: {error}") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to RGB, as training loaders do.

    Raises:
        BadImageError: If Pillow has no such conversion.
    """
    if image.mode == "RGB":
        return image
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return image.convert("RGB")
        except ValueError as error:
            raise BadImageError(f"mode {image.mode}: {error}") from error


def is_cut(image: Image.Image) -> bool:
    """Whether `to_rgb` cuts values of an image, which are not all whole numbers from 0 to 255."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return False
    values = np.asarray(image)
    with np.errstate(invalid="ignore"):  # of NaN
        return bool((values != np.clip(values, 0, 255).astype(np.uint8)).any())
