"""Step 7: shrink the images to 16 x 16 and write the archive that the package loads."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np

from .build import Arrays
from .values import shrink

PACKED_SIZE = 16
# A fixed date (the first that a zip file can hold), so that equal arrays give equal files.
DATE = (1980, 1, 1, 0, 0, 0)


def shrink_images(arrays: Arrays) -> Arrays:
    """Average all images of a data set down to 16 x 16."""
    return {
        name: shrink(array.astype(np.uint8), PACKED_SIZE).round().astype(np.uint8)
        if name.endswith("_x")
        else array
        for name, array in arrays.items()
    }


def write_archive(path: Path, arrays: Arrays) -> None:
    """Write a .npz file with LZMA, a fifth smaller than deflate; ``numpy.load`` reads it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array, allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", DATE)
            archive.writestr(entry, buffer.getvalue(), zipfile.ZIP_LZMA)
