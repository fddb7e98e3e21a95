"""A data set with splits: what every kind of data gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from alphafix.errors import InputError, option
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

    def class_names(self, split: str) -> ClassNames | None:
        """Class names that the split knows; None if its labels are bare numbers."""
        return None

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
class PathData(ImageData):
    """Images in splits that are told apart by a path.

    Attributes:
        pattern: The path, with ``{split}`` in it unless it is one split's.
    """

    pattern: str

    def path(self, split: str) -> Path:
        """File or folder of a split."""
        return Path(self.pattern.replace(PLACEHOLDER, split))

    @property
    def single(self) -> bool:
        """Whether the path is that of one split."""
        return PLACEHOLDER not in self.pattern


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
            todo=f"correct {option('data')} or {option('split')}",
        )
