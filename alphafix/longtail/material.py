"""Which images there are: class folders, in one part or in train, val and test."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from alphafix.errors import InputError, option
from alphafix.images.folders import Scan, class_folders
from alphafix.images.order import ClassOrder, in_order

logger = logging.getLogger(__name__)

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class ClassImages:
    """Images by part and class.

    Attributes:
        root: Folder that all paths are relative to.
        parts: Paths by class, for "train" and those of "val" and "test" that are there; a
            folder without parts is "train".
    """

    root: Path
    parts: Mapping[str, Mapping[str, tuple[str, ...]]]

    @classmethod
    def scan(cls, root: Path) -> ClassImages:
        """List DIR/CLASS/... or, if it is there, DIR/train/CLASS/... and val and test.

        Raises:
            InputError: If there are no class folders.
        """
        if not root.is_dir():
            raise InputError(
                f"the folder {root} is not there",
                expected="a folder with CLASS/image.jpg or train/CLASS/image.jpg",
                todo=f"correct {option('data')}",
            )
        if not _has_folders(root / "train"):
            return cls(root, {"train": _by_class(root, "")})
        there = [part for part in PARTS if _has_folders(root / part)]
        return cls(root, {part: _by_class(root, part) for part in there})

    def names(self, order: ClassOrder) -> tuple[str, ...]:
        """Classes of the training part, in the order of their ids."""
        return in_order(tuple(self.parts["train"]), order)

    def of(self, part: str, name: str) -> tuple[str, ...]:
        """Paths of one class in one part; none if it is not there."""
        return self.parts.get(part, {}).get(name, ())

    def fingerprint(self) -> str:
        """SHA-256 of all paths, to tell whether lists were drawn from the same images."""
        digest = hashlib.sha256()
        for part, classes in self.parts.items():
            for name in sorted(classes):
                digest.update("\0".join((part, name, *classes[name], "")).encode(errors=_SURROGATE))
        return digest.hexdigest()


# Names of files may hold bytes that are no UTF-8; they are refused only where they are drawn.
_SURROGATE = "surrogateescape"


def open_images(folder: Path, root: Path) -> Mapping[str, tuple[str, ...]]:
    """Images of unknown classes by class folder, paths relative to ``root``.

    A folder of images without class folders is one class of its name.

    Raises:
        InputError: If there are no images.
    """
    if not folder.is_dir():
        raise InputError(
            f"the folder {folder} is not there",
            expected="a folder with images of unknown classes",
            todo=f"correct {option('open_data')}",
        )
    relative = os.path.relpath(folder, root)
    names = class_folders(folder) if _has_folders(folder) else [""]
    scan = Scan()
    found = {name or folder.name: tuple(_images(scan, folder, relative, name)) for name in names}
    _tell(scan, folder)
    if not any(found.values()):
        raise InputError(
            f"{folder} holds no images",
            got="no file with a suffix of an image",
            expected="images of unknown classes, in class folders or not",
            todo=f"correct {option('open_data')}",
        )
    return found


def shuffled(items: Iterable[str], seed: int, purpose: str = "") -> list[str]:
    """Items in an order that follows from the seed and their names alone.

    They are sorted by a hash, not by a random generator, so that the same seed draws the same
    images with any version of any library, and more images elsewhere change nothing.
    """

    def key(item: str) -> tuple[bytes, str]:
        text = f"{seed}\0{purpose}\0{item}".encode(errors=_SURROGATE)
        return hashlib.sha256(text).digest(), item

    return sorted(items, key=key)


def _by_class(root: Path, part: str) -> Mapping[str, tuple[str, ...]]:
    names: Sequence[str] = class_folders(root / part)
    scan = Scan()
    found = {name: tuple(_images(scan, root / part, part, name)) for name in names}
    _tell(scan, root / part)
    return found


def _images(scan: Scan, folder: Path, prefix: str, name: str) -> Iterator[str]:
    below = Path(prefix).as_posix()
    for path in scan.images(folder, name):
        yield path if below == "." else f"{below}/{path}"


def _tell(scan: Scan, folder: Path) -> None:
    for remark in scan.remarks():
        logger.warning("%s: %s", folder, remark)


def _has_folders(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    with os.scandir(folder) as entries:
        return any(entry.is_dir() and not entry.name.startswith(".") for entry in entries)
