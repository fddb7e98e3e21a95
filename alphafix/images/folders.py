"""Class folders: DIR/CLASS/.../image.jpg."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from alphafix.errors import InputError, call, counted, option
from alphafix.images.data import PathData
from alphafix.images.labels import Reading, Written
from alphafix.images.listing import FileListing, printable
from alphafix.images.source import OPEN, ImageSource
from alphafix.reading.boundary import real
from alphafix.values.texts import Texts

logger = logging.getLogger(__name__)

# What torchvision's ImageFolder takes for an image (lists may name any file).
IMAGE_FOLDER = frozenset(
    {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}
)
# Other names of these formats, and formats that Pillow decodes as well.
OTHERS = frozenset(
    {".jfif", ".jpe", ".jif", ".pbm", ".pnm", ".dib", ".gif", ".apng", ".jp2", ".avif", ".tga"}
)
SUFFIXES = IMAGE_FOLDER | OTHERS

# Files that are looked at beside what is read, to say how many images they are.
COUNTED = 10_000


def read_endings(text: str | None) -> frozenset[str]:
    """The user's endings of image files, "jpg,png" or ".jpg,.png"; `SUFFIXES` by default.

    Raises:
        InputError: If there is none.
    """
    if text is None:
        return SUFFIXES
    parts = (part.strip().lower().lstrip("*.") for part in text.split(","))
    found = frozenset(f".{part}" for part in parts if part)
    if not found:
        raise InputError(f"{option('endings')} names none", got=repr(text), expected="jpg,png")
    return found


@dataclass
class Scan:
    """Looks for images in folders, and keeps in mind what it leaves out.

    Attributes:
        endings: Endings of image files, in lower case.
        taken: Number of images by ending.
        left: Files that were left out by why, with the first of them.
    """

    endings: frozenset[str] = SUFFIXES
    taken: Counter[str] = field(default_factory=Counter)
    left: dict[str, tuple[int, str]] = field(default_factory=dict)

    def images(self, root: Path, below: str = "") -> Iterator[str]:
        """Paths of images relative to ``root``, in string order, folders after files."""
        yield from self._images(root, below, _above(root) | {_identity(root / below)})

    def _images(self, root: Path, below: str, above: frozenset[tuple[int, int]]) -> Iterator[str]:
        found = _entries(root / below)
        prefix = f"{below}/" if below else ""
        for name, is_folder in found:
            ending = os.path.splitext(name)[1].lower()
            if is_folder:
                continue
            if ending in self.endings:
                self.taken[ending] += 1
                yield prefix + name
            else:
                self._leave(f"file {ending}" if ending else "file without ending", prefix + name)
        for name, is_folder in found:
            if not is_folder:
                continue
            own = _identity(root / (prefix + name))
            if own in above:
                self._leave("link to a folder above", prefix + name)
            else:
                yield from self._images(root, prefix + name, above | {own})

    def _leave(self, why: str, path: str) -> None:
        count, first = self.left.get(why, (0, printable(path)))
        self.left[why] = (count + 1, first)

    def remarks(self) -> tuple[str, ...]:
        """What the user should know of it, in sentences."""
        left = [
            f"{counted(count, kind, _several(kind))} left out, the first {first}"
            for kind, (count, first) in self.left.items()
        ]
        more = [
            f"files {ending} ({self.taken[ending]:,}) are read, which torchvision's ImageFolder "
            f"leaves out (as {call('extract', endings='jpg,png')} does)"
            for ending in sorted(OTHERS)
            if self.taken[ending] and self.endings == SUFFIXES
        ]
        return (*left, *more)


def _several(kind: str) -> str:
    """What several of what was left out are called: "files .txt"."""
    noun, _, which = kind.partition(" ")
    return f"{noun}s {which}"


def _identity(folder: Path) -> tuple[int, int]:
    found = os.stat(folder)
    return found.st_dev, found.st_ino


def _above(folder: Path) -> frozenset[tuple[int, int]]:
    """A folder and all that it lies in; a link to one of them would lead round in a circle."""
    place = real(folder)
    return frozenset(map(_identity, (place, *place.parents)))


def _entries(folder: Path) -> list[tuple[str, bool]]:
    """Names in a folder in string order but for hidden ones, and whether each is a folder.

    Raises:
        InputError: If it cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted((e.name, _is_folder(e)) for e in entries if not e.name.startswith("."))
    except OSError as error:
        raise InputError(
            f"the folder {printable(str(folder))} cannot be read", got=error.strerror or str(error)
        ) from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def class_folders(folder: Path) -> list[str]:
    """Names of the class folders in ``folder``, in string order.

    Raises:
        InputError: If there is none.
    """
    folders = [name for name, is_folder in _entries(folder) if is_folder]
    above = _above(folder)
    names = [name for name in folders if _identity(folder / name) not in above]
    for name in sorted({*folders} - {*names}):
        logger.warning("%s left out: a link to a folder above it", printable(str(folder / name)))
    if not names:
        raise InputError(
            f"{folder} has no class folders",
            got="no folder in it",
            expected=f"{folder}/CLASS/image.jpg",
            todo="name the folder that holds the class folders, or a list file",
        )
    return names


def list_folders(
    folder: Path, classes: Sequence[tuple[str, int]], *, need_all: bool, endings: frozenset[str]
) -> FileListing:
    """List the images of class folders, classes in the order of their ids.

    Args:
        folder: Holds the class folders.
        classes: Name and class id of each class folder.
        need_all: Whether a class folder without images is an error.
        endings: Endings of image files.

    Raises:
        InputError: If a class folder is empty, with ``need_all``.
    """
    sizes: list[int] = []
    packed: list[Texts] = []
    scan = Scan(endings)
    ordered = sorted(classes, key=lambda item: item[1])
    for name, _ in ordered:
        before = dict(scan.left)
        found = Texts.pack(scan.images(folder, name))
        if len(found) == 0 and need_all:
            left = [why for why, count in scan.left.items() if before.get(why) != count]
            raise _empty(folder / name, left, endings)
        packed.append(found)
        sizes.append(len(found))
    labels = np.repeat(np.array([label for _, label in ordered], dtype=np.int64), sizes)
    return FileListing(folder, Texts.join(packed), labels, scan.remarks())


def list_open(folder: Path, endings: frozenset[str] = SUFFIXES) -> FileListing:
    """List all images under ``folder``, none of them of a known class."""
    scan = Scan(endings)
    found = Texts.pack(scan.images(folder))
    labels = np.full(len(found), OPEN, dtype=np.int64)
    return FileListing(folder, found, labels, scan.remarks())


def _empty(folder: Path, left: Sequence[str], endings: frozenset[str]) -> InputError:
    return InputError(
        f"the class folder {printable(str(folder))} holds no images",
        got="only " + ", ".join(map(_several, left)) if left else "no files",
        expected=", ".join(sorted(endings)),
        todo=f"add images of this class, name other endings with {option('endings')}, or remove "
        "the folder if the model has no such class",
    )


@dataclass(frozen=True)
class FolderData(PathData):
    """Class folders: DIR/SPLIT/CLASS/image.jpg.

    Attributes:
        endings: Endings of image files, in lower case.
    """

    endings: frozenset[str] = SUFFIXES

    def exists(self, name: str) -> bool:
        """Whether the folder is there."""
        return self.path(name).is_dir() and not name.startswith(".")

    def beside(self, name: str) -> str | None:
        """The folder and how many images it holds; None without any."""
        count = seen = 0
        for _, _, files in os.walk(self.path(name)):
            seen += 1 + len(files)
            count += sum(os.path.splitext(file)[1].lower() in self.endings for file in files)
            if seen > COUNTED:
                break
        more = "at least " if seen > COUNTED else ""
        return f"{self.path(name)}/: {more}{counted(count, 'image')}" if count else None

    def written(self, name: str, *, whole: bool = False) -> Written:
        """Names of the class folders."""
        names = tuple(map(printable, class_folders(self.path(name))))
        return Written(names, "folder names", dict.fromkeys(names, self.place(name)), named=True)

    def source(self, split: str, name: str, reading: Reading | None) -> ImageSource:
        """List the folder."""
        if reading is None:
            return list_open(self.path(name), self.endings)
        folders = class_folders(self.path(name))
        ids = reading.table([printable(folder) for folder in folders]).tolist()
        return list_folders(
            self.path(name),
            list(zip(folders, ids, strict=True)),
            need_all=split == "train",
            endings=self.endings,
        )
