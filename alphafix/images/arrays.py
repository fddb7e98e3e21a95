"""Images in NumPy arrays."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from alphafix.errors import FileFormatError, InputError, some
from alphafix.images.data import PLACEHOLDER, PathData
from alphafix.images.source import OPEN, ImageSource, Sample, sha256
from alphafix.reading.numpy_files import npz_names, read_npy, read_npz
from alphafix.values.arrays import Array, IntArray


@functools.lru_cache(maxsize=4)
def read_arrays(path: Path, split: str) -> tuple[Array, Array | None]:
    """Read the images and labels of a split.

    A .npz file has ``images`` and ``labels``, or ``train_images`` and so on. A .npy file holds
    the images (it is memory-mapped), and the file with ``labels`` for ``images`` in its name
    the labels.

    Raises:
        FileFormatError: If the file is damaged, or holds something else.
    """
    if path.suffix == ".npy":
        labels = labels_beside(path)
        return read_npy(path, mapped=True), read_npy(labels) if labels.is_file() else None
    prefix = f"{split}_" if f"{split}_images" in npz_names(path) else ""
    arrays = read_npz(path, (f"{prefix}images", f"{prefix}labels"))
    if f"{prefix}images" not in arrays:
        raise FileFormatError(
            f"{path} holds no images of the split {split}",
            got=some(sorted(npz_names(path))),
            expected="arrays images and labels (or train_images, train_labels, ...)",
            todo="save them with np.savez",
        )
    return arrays[f"{prefix}images"], arrays.get(f"{prefix}labels")


def labels_beside(path: Path) -> Path:
    """Where the labels of the .npy file ``path`` are."""
    name = path.name.replace("images", "labels")
    return path.with_name(name if name != path.name else f"{path.stem}_labels.npy")


@dataclass(frozen=True)
class ArraySource(ImageSource):
    """Images in an array, N x H x W or N x H x W x 3, uint8.

    Only the path travels to worker processes; each opens the file itself.

    Attributes:
        path: The .npz or .npy file.
        split: Name of the split.
    """

    path: Path
    split: str

    def __post_init__(self) -> None:
        images, labels = self._arrays
        grey = images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 1)
        if images.dtype != np.uint8 or not (grey or (images.ndim == 4 and images.shape[3] == 3)):
            raise InputError(
                f"the images of {self.path} have another form",
                got=f"{images.dtype}, shape {images.shape}",
                expected="uint8, N x H x W or N x H x W x 3 (channels last)",
                todo="save them so",
            )
        if self.split != "open" and (labels is None or labels.shape != (len(images),)):
            raise InputError(
                f"the labels of {self.path} do not fit its images",
                got="none" if labels is None else f"shape {labels.shape}",
                expected=f"({len(images)},)",
            )

    @property
    def _arrays(self) -> tuple[Array, Array | None]:
        return read_arrays(self.path, self.split)

    def size(self, group: int) -> int:
        """N."""
        return len(self._arrays[0])

    def sample(self, group: int, index: int) -> Sample:
        """Cut one image out of the array."""
        pixels = np.asarray(self._arrays[0][index])
        image = Image.fromarray(pixels[..., 0] if pixels.shape[-1:] == (1,) else pixels)
        return Sample(f"{self.split}/{index}", int(self.known_labels[index]), image)

    @property
    def known_labels(self) -> IntArray:
        """All labels."""
        images, labels = self._arrays
        if labels is None or self.split == "open":
            return np.full(len(images), OPEN, dtype=np.int64)
        return labels.astype(np.int64, copy=False)

    def fingerprint(self) -> str:
        """Hash of the labels and the images' shape."""
        return sha256(repr(self._arrays[0].shape).encode(), self.known_labels)


@dataclass(frozen=True)
class ArrayData(PathData):
    """NumPy files; one may hold all splits."""

    @property
    def single(self) -> bool:
        """Whether the file is that of one split."""
        path = self.path("train")
        if PLACEHOLDER in self.pattern or not path.is_file():
            return False
        return path.suffix == ".npy" or "images" in npz_names(path)

    def has(self, split: str) -> bool:
        """Whether the file is there and holds the split."""
        path = self.path(split)
        if not path.is_file():
            return False
        one = self.single or path.suffix == ".npy"
        return one or bool({f"{split}_images", "images"} & npz_names(path))

    def source(self, split: str, classes: tuple[str, ...] | None) -> ImageSource:
        """Open the file."""
        return ArraySource(self.path(split), split)
