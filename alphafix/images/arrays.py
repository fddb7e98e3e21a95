"""Images in NumPy arrays."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from alphafix.errors import FileFormatError, InputError, some
from alphafix.images.data import PathData
from alphafix.images.fingerprints import Fingerprint, Stamp, fingerprint_files, stamp
from alphafix.images.labels import Reading, Written, whole_number
from alphafix.images.names import PLACEHOLDER
from alphafix.images.source import OPEN, ImageSource, Sample
from alphafix.reading.numpy_files import npz_names, read_npy, read_npz
from alphafix.values.arrays import Array, IntArray


def read_arrays(path: Path, split: str) -> tuple[Array, Array | None]:
    """Read the images and labels of a split.

    A .npz file has ``images`` and ``labels``, or ``train_images`` and so on. A .npy file holds
    the images (it is memory-mapped), and the file with ``labels`` for ``images`` in its name
    the labels.

    Raises:
        FileFormatError: If the file is damaged, or holds something else.
    """
    return _arrays(path, split, stamp(path), stamp(labels_beside(path)))


@functools.lru_cache(maxsize=4)
def _arrays(path: Path, split: str, *_: Stamp) -> tuple[Array, Array | None]:
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
        split: The split, with which the sample ids begin.
        name: The file's name of it.
        labels: int64 of shape N.
    """

    path: Path
    split: str
    name: str
    labels: IntArray

    def __post_init__(self) -> None:
        images, _ = self._arrays
        grey = images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 1)
        if images.dtype != np.uint8 or not (grey or (images.ndim == 4 and images.shape[3] == 3)):
            raise InputError(
                f"the images of {self.path} have another form",
                got=f"{images.dtype}, shape {images.shape}",
                expected="uint8, N x H x W or N x H x W x 3 (channels last)",
                todo="save them so",
            )

    @property
    def _arrays(self) -> tuple[Array, Array | None]:
        return read_arrays(self.path, self.name)

    def size(self, group: int) -> int:
        """N."""
        return len(self.labels)

    def sample(self, group: int, index: int) -> Sample:
        """Cut one image out of the array."""
        pixels = np.asarray(self._arrays[0][index])
        image = Image.fromarray(pixels[..., 0] if pixels.shape[-1:] == (1,) else pixels)
        return Sample(f"{self.split}/{index}", int(self.labels[index]), image)

    @property
    def known_labels(self) -> IntArray:
        """All labels."""
        return self.labels

    def fingerprint(self) -> Fingerprint:
        """Hash of the file and the labels."""
        files = (
            (self.path, labels_beside(self.path)) if self.path.suffix == ".npy" else (self.path,)
        )
        return fingerprint_files(lambda: files).with_parts(self.labels)

    def part_fingerprint(self, group: int, index: range) -> Fingerprint:
        """Hash of some images and labels."""
        images = self._arrays[0]
        rows = slice(index.start, index.stop)
        own = f"{self.split} {index} {images.shape[1:]}".encode()
        return Fingerprint("").with_parts(own, images[rows], self.labels[rows])


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

    def there(self) -> tuple[str, ...]:
        """Names of files, or what the names of the arrays in one file begin with."""
        if PLACEHOLDER in self.pattern or self.single:
            return super().there()
        path = self.path("")
        names = npz_names(path) if path.is_file() else ()
        return tuple(sorted(n.removesuffix("_images") for n in names if n.endswith("_images")))

    def place(self, name: str) -> str:
        """The file, and which of its arrays."""
        path = self.path(name)
        return (
            f"{path}" if self.single or PLACEHOLDER in self.pattern else f"{path} ({name}_images)"
        )

    def written(self, name: str, *, whole: bool = False) -> Written:
        """The labels, which may be numbers or texts."""
        values, _ = self._labels(name)
        kind = "numbers" if all(whole_number(value) is not None for value in values) else "texts"
        return Written(values, f"{kind} in the array of labels")

    def source(self, split: str, name: str, reading: Reading | None) -> ImageSource:
        """Open the file."""
        if reading is None:
            count = len(read_arrays(self.path(name), name)[0])
            labels = np.full(count, OPEN, dtype=np.int64)
        else:
            values, index = self._labels(name)
            labels = reading.table(values)[index]
        return ArraySource(self.path(name), split, name, labels)

    def _labels(self, name: str) -> tuple[tuple[str, ...], IntArray]:
        """The different labels as texts, and which of them each sample has, int64 of shape N."""
        images, labels = read_arrays(self.path(name), name)
        if labels is None or labels.shape != (len(images),):
            raise InputError(
                f"the labels of {self.path(name)} do not fit its images",
                got="none" if labels is None else f"shape {labels.shape}",
                expected=f"({len(images)},)",
                todo="save one label an image; of one-hot rows their argmax(axis=1)",
            )
        if labels.dtype.kind not in "iubfUS":
            raise _no_labels(self.path(name), f"dtype {labels.dtype}")
        if (
            labels.dtype.kind == "f"
            and not (np.isfinite(labels) & (labels == labels.round())).all()
        ):
            first = int(np.argmin(np.isfinite(labels) & (labels == labels.round())))
            raise _no_labels(self.path(name), f"{labels[first]} of sample {first}")
        values, index = np.unique(labels, return_inverse=True)
        return tuple(map(_text, values.tolist())), index.astype(np.int64)


def _text(value: object) -> str:
    """A label of an array as a text."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(int(value)) if isinstance(value, bool | float) else str(value)


def _no_labels(path: Path, got: str) -> InputError:
    return InputError(
        f"the labels of {path} are no class ids and no names",
        got=got,
        expected="whole numbers from 0 to C-1, or texts",
        todo="number the classes, for example with numpy.unique(..., return_inverse=True)",
    )
