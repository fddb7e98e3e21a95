"""From bytes to an RGB image, or a clear reason why not."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from alphafix.images.source import BadImageError, Content

# 16-bit values are scaled by this to 8 bits (Pillow's own conversion would clip them).
_SIXTEEN_TO_EIGHT = 257


def read_bytes(content: Path | bytes) -> bytes:
    """Read an encoded image.

    Raises:
        BadImageError: If the file cannot be read or is empty.
    """
    if isinstance(content, bytes):
        data = content
    else:
        try:
            data = content.read_bytes()
        except (OSError, ValueError) as error:  # ValueError: a name with NUL in it
            link = " (a broken link)" if os.path.islink(content) else ""
            raise BadImageError(f"{getattr(error, 'strerror', None) or error}{link}") from error
    if not data:
        raise BadImageError("the file is empty")
    return data


def decode(content: Content, *, exif_rotate: bool = False) -> Image.Image:
    """Decode an image to RGB, as torchvision and timm do in training.

    Of an animation the first frame is taken; transparency is dropped; 16-bit grey values are
    scaled to 8 bits. EXIF rotation is ignored unless asked for, as those loaders ignore it:
    a model has to see an image as it did in training.

    Args:
        content: A file, its bytes, or an image.
        exif_rotate: Whether to turn the image as its EXIF data says.

    Raises:
        BadImageError: If it is no whole image, or one so large that it may be an attack.
    """
    if isinstance(content, BadImageError):
        raise content
    if isinstance(content, Image.Image):
        return to_rgb(content)
    data = read_bytes(content)
    try:
        with warnings.catch_warnings():
            # Pillow warns of large photographs and of EXIF or palette oddities; it still
            # refuses what is twice as large as its limit.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as image:
                image.load()
                return to_rgb(ImageOps.exif_transpose(image) if exif_rotate else image)
    except UnidentifiedImageError as error:
        start = data[:8]
        raise BadImageError(f"no image format that Pillow knows (begins with {start!r})") from error
    except Image.DecompressionBombError as error:
        raise BadImageError(f"possibly a decompression bomb: {error}") from error
    # Pillow's decoders raise many types for damaged files (SyntaxError, struct.error, ...).
    except Exception as error:
        raise BadImageError(f"{type(error).__name__}: {error}") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to RGB."""
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint32)
        image = Image.fromarray((values // _SIXTEEN_TO_EIGHT).astype(np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return image.convert("RGB")
