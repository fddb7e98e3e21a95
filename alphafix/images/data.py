"""A data set with splits: what every kind of data gives."""

from __future__ import annotations

import glob
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from alphafix.images.labels import Reading, Written
from alphafix.images.names import PLACEHOLDER, USUAL
from alphafix.images.source import ImageSource


class ImageData(ABC):
    """Images in splits, which have names of the data's own."""

    @abstractmethod
    def there(self) -> tuple[str, ...]:
        """The data's names of its splits; none if it is the data of one split."""

    @property
    def single(self) -> bool:
        """Whether this is the data of one split, whichever the user says it is."""
        return False

    def place(self, name: str) -> str:
        """Where the split of this name is, in words."""
        return name

    def beside(self, name: str) -> str | None:
        """What a split is that is there and not used, in words; None if it is no images."""
        return self.place(name)

    @abstractmethod
    def written(self, name: str, *, whole: bool = False) -> Written:
        """The labels of a split, as they are written.

        Args:
            name: The data's name of the split; any if it is the data of one split.
            whole: Whether all of them are needed: those of archives can else be the first one's.

        Raises:
            InputError: If a sample has no label.
        """

    @abstractmethod
    def source(self, split: str, name: str, reading: Reading | None) -> ImageSource:
        """The images of a split.

        Args:
            split: Which of ours it is, for the sample ids.
            name: The data's name of it.
            reading: How its labels become class ids; None if all are of no known class.
        """


@dataclass(frozen=True)
class PathData(ImageData):
    """Images in splits that are told apart by a path.

    Attributes:
        pattern: The path, with ``{split}`` in it unless it is one split's.
        extra: Names of splits that the user gave, beside the usual ones.
    """

    pattern: str
    extra: tuple[str, ...] = ()

    def path(self, name: str) -> Path:
        """File or folder of a split."""
        return Path(self.pattern.replace(PLACEHOLDER, name))

    @property
    def single(self) -> bool:
        """Whether the path is that of one split."""
        return PLACEHOLDER not in self.pattern

    def place(self, name: str) -> str:
        """The path."""
        return str(self.path(name))

    def exists(self, name: str) -> bool:
        """Whether the split is there."""
        return self.path(name).is_file()

    def there(self) -> tuple[str, ...]:
        """All names that the pattern finds; of a pattern with more braces the usual ones."""
        if self.single:
            return ()
        before, _, after = self.pattern.partition(PLACEHOLDER)
        if "{" in after or "{" in before:
            known = dict.fromkeys([*sum(USUAL.values(), ()), *self.extra])
            return tuple(name for name in known if self.exists(name))
        found = glob.glob(f"{glob.escape(before)}*{glob.escape(after)}")
        names = sorted(path[len(before) : len(path) - len(after)] for path in found)
        return tuple(name for name in names if self.exists(name))
