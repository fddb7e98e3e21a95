"""Glyphs-LT: 300 classes of letters and digits, drawn by free fonts, with a long tail.

A class is a Unicode code point and a sample is that character as one font face draws it:
16 x 16 pixels, grey, light ink on a dark ground. A font family is in only one of train,
validation and test. How it was made is in ``examples/glyphs_lt`` of the repository.
"""

from __future__ import annotations

import shutil
import tempfile
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from alphafix.errors import TargetExistsError
from alphafix.locks import make_folders, remove_empty
from alphafix.progress import Advance, Progress, silent
from alphafix.values.arrays import Array, ByteArray

ARCHIVE = "glyphs-lt-16px.npz"
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class GlyphSplit:
    """The labelled samples of one of train, validation and test.

    Attributes:
        images: N x 16 x 16, uint8, ink is 255.
        labels: N class ids.
        faces: N indices into the data set's font faces.
    """

    images: ByteArray
    labels: npt.NDArray[np.int16]
    faces: npt.NDArray[np.int16]

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.labels)


@dataclass(frozen=True)
class Glyphs:
    """The whole data set: C classes, three splits and images of classes never trained on.

    Attributes:
        train: 32,394 samples, 400 to 5 a class.
        val: 2,400 samples, 8 a class.
        test: 6,000 samples, 20 a class.
        open_images: N x 16 x 16, uint8; scripts that the classes do not have.
        open_code_points: N code points, those of the open images.
        code_points: C code points, those of the classes.
        natural_counts: C counts of the samples there were before the tail was cut.
        face_names: Name of every font face, "family / style".
        face_groups: Family group of every font face, the unit dealt to the splits.
    """

    train: GlyphSplit
    val: GlyphSplit
    test: GlyphSplit
    open_images: ByteArray
    open_code_points: npt.NDArray[np.int32]
    code_points: npt.NDArray[np.int32]
    natural_counts: npt.NDArray[np.int32]
    face_names: npt.NDArray[np.str_] = field(repr=False)
    face_groups: npt.NDArray[np.str_] = field(repr=False)

    @property
    def num_classes(self) -> int:
        """The number of classes C."""
        return len(self.code_points)

    @cached_property
    def class_folders(self) -> tuple[str, ...]:
        """The C folder names, in class order."""
        return tuple(folder_name(i, int(c)) for i, c in enumerate(self.code_points))

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The C names for people to read, in class order."""
        return tuple(describe_code_point(int(c)) for c in self.code_points)


def load_glyphs(path: Path | None = None) -> Glyphs:
    """Load the data set that ships with the package, or one rebuilt at ``path``."""
    archive = files("alphafix.demo") / "data" / ARCHIVE
    with as_file(archive) as shipped, np.load(path or shipped) as arrays:
        return _from_arrays(arrays)


def _from_arrays(arrays: Mapping[str, Array]) -> Glyphs:
    splits = {
        name: GlyphSplit(arrays[f"{name}_x"], arrays[f"{name}_y"], arrays[f"{name}_face"])
        for name in SPLITS
    }
    return Glyphs(
        **splits,
        open_images=arrays["open_x"],
        open_code_points=arrays["open_cp"],
        code_points=arrays["classes"],
        natural_counts=arrays["natural"],
        face_names=arrays["face_name"],
        face_groups=arrays["face_group"],
    )


def folder_name(index: int, code_point: int) -> str:
    """Name the folder of a class, for example ``000-U+0041``.

    The leading index has a fixed width, so that string order, natural order and class
    order are one and the same; the rest is ASCII on every file system.
    """
    return f"{index:03d}-U+{code_point:04X}"


def describe_code_point(code_point: int) -> str:
    """Name a character for people: ``U+1E6F ṯ LATIN SMALL LETTER T WITH LINE BELOW``."""
    character = chr(code_point)
    name = unicodedata.name(character, "UNNAMED")
    return f"U+{code_point:04X} {character} {name}"


def unpack_images(glyphs: Glyphs, folder: Path, progress: Progress = silent) -> int:
    """Write the data set as PNG files: ``folder/SPLIT/CLASS/ROW.png``.

    The splits are train, val, test and open. A file is named after its row in the split's
    arrays. The open images have folders of their own, numbered by code point and
    prefixed ``open-`` so that none can be taken for a class. The folder appears when all
    is written, so that a broken run leaves no half of a data set.

    Args:
        glyphs: The data set.
        folder: Where to write; missing or empty.
        progress: How to report the files written.

    Returns:
        The number of files written.

    Raises:
        TargetExistsError: If ``folder`` is a file or a folder that is not empty.
    """
    _refuse_taken(folder)
    groups = list(_image_groups(glyphs))
    total = sum(len(images) for _, images, _ in groups)
    made = make_folders(folder.parent)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        with progress("unpack Glyphs-LT", total) as advance:
            for split, images, names in groups:
                _write_split(partial / split, images, names, advance)
        partial.chmod(0o755)  # mkdtemp makes a folder that only its owner can read
        if folder.exists():
            folder.rmdir()
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        remove_empty(made)  # unless it is in them
    return total


def _refuse_taken(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise TargetExistsError(
            f"cannot unpack Glyphs-LT into {folder}",
            got="a folder that is not empty" if folder.is_dir() else "a file",
            expected="a folder that is missing or empty",
            todo="remove it, or name another folder",
        )


def _image_groups(glyphs: Glyphs) -> Iterator[tuple[str, ByteArray, list[str]]]:
    """Yield each split's name, images and the folder name of every image."""
    classes = glyphs.class_folders
    for name in SPLITS:
        split: GlyphSplit = getattr(glyphs, name)
        yield name, split.images, [classes[label] for label in split.labels]
    code_points, labels = np.unique(glyphs.open_code_points, return_inverse=True)
    unknown = [f"open-{folder_name(i, int(c))}" for i, c in enumerate(code_points)]
    yield "open", glyphs.open_images, [unknown[label] for label in labels]


def _write_split(folder: Path, images: ByteArray, names: list[str], advance: Advance) -> None:
    for name in sorted(set(names)):
        (folder / name).mkdir(parents=True)
    for row, (pixels, name) in enumerate(zip(images, names, strict=True)):
        # Level 1: such small files stay as small, and there are 41,794 of them.
        path = folder / name / f"{row:05d}.png"
        Image.fromarray(pixels).save(path, format="PNG", compress_level=1)
        advance(1)
