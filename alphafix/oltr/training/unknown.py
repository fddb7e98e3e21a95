"""The classes of unknown images, where their folders tell them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

import numpy as np

from alphafix.errors import InputError, option
from alphafix.images.listing import FileListing
from alphafix.images.source import ImageSource
from alphafix.values.arrays import BoolArray


def require_classes(source: ImageSource, counts: Sequence[int]) -> None:
    """Check that there are so many classes of unknown images.

    Raises:
        InputError: If there are fewer, or the images are not in a folder for each class.
    """
    folders = _folders(source)
    if max(counts) > len(folders):
        raise InputError(
            f"there are no {max(counts)} unknown classes",
            got=f"images in {len(folders)} folders",
            expected="a folder of images for each unknown class",
            todo=f"correct {option('open_classes')}, or give other images with {option('open')}",
        )


def of_first_classes(source: ImageSource, counts: Sequence[int]) -> Iterator[tuple[int, BoolArray]]:
    """Which images are of the first so many classes, bool of shape N, for each number.

    Args:
        source: N images of unknown classes, one folder a class.
        counts: Numbers of classes, which are taken in the order of their folders' names.
    """
    folders = _folders(source)
    places = {folder: place for place, folder in enumerate(sorted(folders))}
    of_image = np.empty(sum(map(len, folders.values())), dtype=np.int64)
    for folder, images in folders.items():
        of_image[images] = places[folder]
    for count in counts:
        yield count, of_image < count


def _folders(source: ImageSource) -> dict[str, list[int]]:
    """Numbers of the images in each folder; none where the source has no files in folders."""
    found: dict[str, list[int]] = {}
    if isinstance(source, FileListing):
        for number in range(len(source.paths)):
            parent = PurePosixPath(str(source.paths[number])).parent
            found.setdefault(str(parent), []).append(number)
    return found
