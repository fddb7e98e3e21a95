"""Class folders: DIR/CLASS/.../image.jpg."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alphafix.errors import InputError, option, some
from alphafix.images.data import ClassNames, PathData
from alphafix.images.listing import FileListing
from alphafix.images.source import OPEN, ImageSource
from alphafix.values.texts import Texts

# What counts as an image among other files in a folder (lists may name any file).
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif"}
)


def class_folders(folder: Path) -> list[str]:
    """Names of the class folders in ``folder``, in string order.

    Raises:
        InputError: If there is none.
    """
    with os.scandir(folder) as entries:
        names = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    if not names:
        raise InputError(
            f"{folder} has no class folders",
            got="no folder in it",
            expected=f"{folder}/CLASS/image.jpg",
            todo="name the folder that holds the class folders, or a list file",
        )
    return names


def list_folders(folder: Path, classes: tuple[str, ...], *, need_all: bool) -> FileListing:
    """List the images of class folders, classes in the order of ``classes``.

    Args:
        folder: Holds the class folders.
        classes: C class names; a folder that is not among them is an error.
        need_all: Whether a class folder without images is an error.

    Raises:
        InputError: If a class folder is unknown or, with ``need_all``, empty.
    """
    there = set(class_folders(folder))
    unknown = sorted(there - set(classes))
    if unknown:
        raise InputError(
            f"{len(unknown)} class folders of {folder} are no classes of the model's list",
            got=some(unknown),
            expected=f"the {len(classes)} classes that classes.json or {option('class_map')} lists",
            todo=f"extract other classes as {option('split', 'open')}, or start a new run with "
            f"{option('run')}",
        )
    labels: list[int] = []
    sizes: list[int] = []
    packed: list[Texts] = []
    for label, name in enumerate(classes):
        found = Texts.pack(_images(folder, name)) if name in there else Texts.pack(())
        if name in there and len(found) == 0 and need_all:
            raise _empty(folder / name)
        packed.append(found)
        labels.append(label)
        sizes.append(len(found))
    repeated = np.repeat(np.array(labels, dtype=np.int64), sizes)
    return FileListing(folder, Texts.join(packed), repeated)


def list_open(folder: Path) -> FileListing:
    """List all images under ``folder``, none of them of a known class."""
    found = Texts.pack(_images(folder, ""))
    return FileListing(folder, found, np.full(len(found), OPEN, dtype=np.int64))


def _images(root: Path, below: str) -> Iterator[str]:
    """Paths of images relative to ``root``, in string order, folders after files."""
    with os.scandir(root / below) as entries:
        found = sorted((e.name, e.is_dir()) for e in entries if not e.name.startswith("."))
    prefix = f"{below}/" if below else ""
    for name, is_folder in found:
        if not is_folder and os.path.splitext(name)[1].lower() in SUFFIXES:
            yield prefix + name
    for name, is_folder in found:
        if is_folder:
            yield from _images(root, prefix + name)


def _empty(folder: Path) -> InputError:
    return InputError(
        f"the class folder {folder} holds no images",
        got="no file with a suffix of an image",
        expected=", ".join(sorted(SUFFIXES)),
        todo="add images of this class, or remove the folder if the model has no such class",
    )


@dataclass(frozen=True)
class FolderData(PathData):
    """Class folders: DIR/SPLIT/CLASS/image.jpg."""

    def has(self, split: str) -> bool:
        """Whether the folder is there."""
        return self.path(split).is_dir()

    def class_names(self, split: str) -> ClassNames | None:
        """Names of the class folders."""
        return ClassNames(tuple(class_folders(self.path(split))))

    def source(self, split: str, classes: tuple[str, ...] | None) -> ImageSource:
        """List the folder."""
        if split == "open":
            return list_open(self.path(split))
        return list_folders(self.path(split), classes or (), need_all=split == "train")
