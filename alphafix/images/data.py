"""A data set with splits, as `--data SPEC` names it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from alphafix.errors import InputError
from alphafix.images.archives import LABEL, ArchiveSource, expand
from alphafix.images.arrays import ArraySource, npz_names
from alphafix.images.folders import class_folders, list_folders, list_open
from alphafix.images.lists import class_names_of, read_list
from alphafix.images.source import ImageSource

SPLITS = ("train", "val", "test", "open")
PLACEHOLDER = "{split}"


@dataclass(frozen=True)
class ClassNames:
    """Class names as a data set has them.

    Attributes:
        names: The names.
        numbered: Whether their order is the data set's own numbering (else any order).
    """

    names: tuple[str, ...]
    numbered: bool = False


class ImageData(ABC):
    """Images in splits."""

    @abstractmethod
    def has(self, split: str) -> bool:
        """Whether there is such a split."""

    @abstractmethod
    def class_names(self, split: str) -> ClassNames | None:
        """Class names that the split knows; None if its labels are bare numbers."""

    @abstractmethod
    def source(self, split: str, classes: tuple[str, ...] | None) -> ImageSource:
        """The images of a split.

        Args:
            split: One of `SPLITS`; the samples of "open" are of no known class.
            classes: C class names in the order of the logits, None for bare numbers.
        """

    @property
    def single(self) -> bool:
        """Whether this is the data of one split, whichever the user says it is."""
        return False

    def splits(self) -> tuple[str, ...]:
        """The splits that are there by name, but for "open"."""
        if self.single:
            return ()
        return tuple(split for split in SPLITS[:3] if self.has(split))


@dataclass(frozen=True)
class FolderData(ImageData):
    """Class folders: DIR/SPLIT/CLASS/image.jpg.

    Attributes:
        pattern: Path of a split's folder, with ``{split}`` in it.
    """

    pattern: str

    def folder(self, split: str) -> Path:
        """Folder of a split."""
        return Path(self.pattern.replace(PLACEHOLDER, split))

    def has(self, split: str) -> bool:
        """Whether the folder is there."""
        return self.folder(split).is_dir()

    def class_names(self, split: str) -> ClassNames | None:
        """Names of the class folders."""
        return ClassNames(tuple(class_folders(self.folder(split))))

    def source(self, split: str, classes: tuple[str, ...] | None) -> ImageSource:
        """List the folder."""
        if split == "open":
            return list_open(self.folder(split))
        return list_folders(self.folder(split), classes or (), need_all=split == "train")


@dataclass(frozen=True)
class ListData(ImageData):
    """List or CSV files.

    Attributes:
        pattern: Path of a split's file, with ``{split}`` in it unless it is one split's.
        root: Folder that the paths are relative to; that of the file by default.
        prefixes: Beginnings of paths to replace.
    """

    pattern: str
    root: Path | None = None
    prefixes: Mapping[str, str] = field(default_factory=dict)

    def file(self, split: str) -> Path:
        """File of a split."""
        return Path(self.pattern.replace(PLACEHOLDER, split))

    def has(self, split: str) -> bool:
        """Whether the file is there."""
        return self.file(split).is_file()

    @property
    def single(self) -> bool:
        """Whether the file is that of one split."""
        return PLACEHOLDER not in self.pattern

    def class_names(self, split: str) -> ClassNames | None:
        """Names of the classes, if the labels are no numbers."""
        names = class_names_of(self.file(split))
        return None if names is None else ClassNames(tuple(names))

    def source(self, split: str, classes: tuple[str, ...] | None) -> ImageSource:
        """Read the file."""
        ids = None
        open_set = split == "open"
        if classes is not None and not open_set and class_names_of(self.file(split)) is not None:
            ids = {name: number for number, name in enumerate(classes)}
        root = self.root if self.root is not None else self.file(split).parent
        return read_list(
            self.file(split), root=root, prefixes=self.prefixes, ids=ids, open_set=open_set
        )


@dataclass(frozen=True)
class ArchiveData(ImageData):
    """WebDataset archives.

    Attributes:
        pattern: Paths with braces, and ``{split}`` in them unless they are one split's.
        image_key: Extension of the images, if the user gave it.
        label_key: Extension of the labels, or their name in the json, if the user gave it.
    """

    pattern: str
    image_key: str | None = None
    label_key: str | None = None

    def paths(self, split: str) -> tuple[Path, ...]:
        """Archives of a split."""
        return expand(self.pattern.replace(PLACEHOLDER, split))

    @property
    def single(self) -> bool:
        """Whether the archives are those of one split."""
        return PLACEHOLDER not in self.pattern

    def has(self, split: str) -> bool:
        """Whether the archives are there."""
        try:
            return len(self.paths(split)) > 0
        except InputError:
            if split == "train" or self.single:
                raise  # what is missing is worth knowing
            return False

    def class_names(self, split: str) -> ClassNames | None:
        """Archives know no names."""
        return None

    def source(self, split: str, classes: tuple[str, ...] | None) -> ImageSource:
        """Open the archives."""
        ids = None if classes is None else {name: i for i, name in enumerate(classes)}
        return ArchiveSource(
            self.paths(split), ids, self.image_key, self.label_key or LABEL, split == "open"
        )


@dataclass(frozen=True)
class ArrayData(ImageData):
    """NumPy files.

    Attributes:
        pattern: Path, with ``{split}`` in it unless the file holds all splits or one.
    """

    pattern: str

    def file(self, split: str) -> Path:
        """File of a split."""
        return Path(self.pattern.replace(PLACEHOLDER, split))

    @property
    def single(self) -> bool:
        """Whether the file is that of one split."""
        path = self.file("train")
        if PLACEHOLDER in self.pattern or not path.is_file():
            return False
        return path.suffix == ".npy" or "images" in npz_names(path)

    def has(self, split: str) -> bool:
        """Whether the file is there and holds the split."""
        path = self.file(split)
        if not path.is_file():
            return False
        one = self.single or path.suffix == ".npy"
        return one or bool({f"{split}_images", "images"} & npz_names(path))

    def class_names(self, split: str) -> ClassNames | None:
        """Arrays know no names."""
        return None

    def source(self, split: str, classes: tuple[str, ...] | None) -> ImageSource:
        """Open the file."""
        return ArraySource(self.file(split), split)


def require_split(data: ImageData, split: str, spec: str) -> None:
    """Check that a split is there.

    Raises:
        InputError: If it is not.
    """
    if not data.has(split):
        raise InputError(
            f"the data has no split {split}",
            got=f"{spec} with {', '.join(data.splits()) or 'no split'}",
            expected=f"a folder {split}, a file {split}.txt or {split}.csv in it, or a path "
            f"with {PLACEHOLDER}",
            todo="correct --data or --split",
        )
