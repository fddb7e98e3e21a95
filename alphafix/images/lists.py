"""Lists of images: ``path label`` lines, CSV, TSV and JSON lines."""

from __future__ import annotations

import posixpath
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from alphafix.errors import InputError, counted, option
from alphafix.images.data import PathData
from alphafix.images.folders import SUFFIXES
from alphafix.images.labels import Reading, Written
from alphafix.images.listing import FileListing
from alphafix.images.names import PLACEHOLDER, usual_split
from alphafix.images.source import OPEN, ImageSource
from alphafix.images.tables import LISTS, Columns, rows_of, understood_splits
from alphafix.values.arrays import IntArray
from alphafix.values.texts import Texts


@dataclass(frozen=True)
class ListContent:
    """What a list holds.

    Attributes:
        paths: N paths, relative to the images' folder, their beginnings replaced.
        labels: Index into ``values`` of each, int64 of shape N.
        values: The different labels, in the order of their first lines.
        lines: Where each value is first, in words.
        parts: Index into ``splits`` of each, int64 of shape N.
        splits: What a column of splits says, [""] without one.
    """

    paths: Texts
    labels: IntArray
    values: tuple[str, ...]
    lines: Mapping[str, str]
    parts: IntArray
    splits: tuple[str, ...]

    @classmethod
    def read(
        cls, path: Path, columns: Columns | None = None, prefixes: Mapping[str, str] | None = None
    ) -> ListContent:
        """Read a list.

        Args:
            path: The file.
            columns: What the user says of its columns.
            prefixes: Beginnings of paths to replace; the longest that fits is used.

        Raises:
            InputError: If a line is malformed, or a path is there twice.
        """
        ordered = sorted((prefixes or {}).items(), key=lambda item: -len(item[0]))
        lines, labels, parts, hashes = array("q"), array("q"), array("q"), array("q")
        values: dict[str, int] = {}
        splits: dict[str, int] = {}
        first: dict[str, str] = {}

        def paths() -> Iterator[str]:
            for row in rows_of(path, columns):
                first.setdefault(row.label, f"line {row.line} of {path.name}")
                labels.append(values.setdefault(row.label, len(values)))
                parts.append(splits.setdefault(row.split, len(splits)))
                lines.append(row.line)
                name = next(
                    (
                        new + row.path[len(old) :]
                        for old, new in ordered
                        if row.path.startswith(old)
                    ),
                    row.path,
                )
                hashes.append(hash(posixpath.normpath(name)))
                yield name

        packed = Texts.pack(paths())
        if len(np.unique(np.array(hashes))) < len(hashes):
            _refuse_doubled(path, packed, [list(values)[index] for index in labels], lines)
        return cls(
            packed,
            np.array(labels, dtype=np.int64),
            tuple(values),
            first,
            np.array(parts, dtype=np.int64),
            tuple(splits) or ("",),
        )


def _refuse_doubled(path: Path, names: Texts, labels: Sequence[str], lines: Sequence[int]) -> None:
    """Check that no image is listed twice, which would count it twice.

    Raises:
        InputError: If one is.
    """
    seen: dict[str, int] = {}
    doubled = [
        (seen[plain], i)
        for i, name in enumerate(names)
        if seen.setdefault(plain := posixpath.normpath(name), i) != i
    ]
    if not doubled:
        return
    other, second = next(
        (pair for pair in doubled if labels[pair[0]] != labels[pair[1]]), doubled[0]
    )
    same = labels[other] == labels[second]
    raise InputError(
        f"{path} lists {counted(len(doubled), 'image')} more than once",
        got=f"{names[second]} in lines {lines[other]} and {lines[second]}"
        + ("" if same else f", as {labels[other]!r} and as {labels[second]!r}"),
        expected="each image once, as they are counted",
        todo="remove the repeated lines"
        if same
        else "correct the label, and remove the other line",
    )


@dataclass(frozen=True)
class ListData(PathData):
    """Lists of images, a file a split, or one file with a column ``split``.

    Attributes:
        root: Folder that the paths are relative to; that of the file by default.
        prefixes: Beginnings of paths to replace.
        columns: What the user says of a table's columns.
    """

    root: Path | None = None
    prefixes: Mapping[str, str] = field(default_factory=dict)
    columns: Columns = field(default_factory=Columns)
    _read: dict[Path, ListContent] = field(default_factory=dict, repr=False, compare=False)

    def content(self, name: str) -> ListContent:
        """What the file of a split holds; it is read once.

        Raises:
            InputError: See `ListContent.read`; or if its column of splits tells of others.
        """
        path = self.path(name)
        if path not in self._read:
            self._read[path] = ListContent.read(path, self.columns, self.prefixes)
        found = self._read[path]
        others = [s for s in found.splits if usual_split(s) and usual_split(s) != usual_split(name)]
        if others and not self._column and usual_split(name):
            raise InputError(
                f"{path} is the list of one split and has rows of others",
                got=f"{others[0]!r} in its column of splits",
                expected=f"rows of {name}",
                todo=f"give the file alone, {option('data', path)}: its column then says the split",
            )
        return found

    @cached_property
    def _column(self) -> tuple[str, ...]:
        """What the column of splits of a single file says; none if it says nothing."""
        path = None if PLACEHOLDER in self.pattern else self.path("")
        if path is None or not path.is_file():
            return ()
        self._read[path] = ListContent.read(path, self.columns, self.prefixes)
        names = tuple(sorted(self._read[path].splits))
        return names if understood_splits(names, self.extra) else ()

    @property
    def single(self) -> bool:
        """Whether the file is that of one split."""
        return PLACEHOLDER not in self.pattern and not self._column

    def there(self) -> tuple[str, ...]:
        """What the column of splits says, or the names of files."""
        return self._column or super().there()

    def place(self, name: str) -> str:
        """The file, and which of its rows."""
        rows = f" (rows of split {name})" if self._column else ""
        return f"{self.path(name)}{rows}"

    def beside(self, name: str) -> str | None:
        """The file, if its first line names an image."""
        try:
            first = next(rows_of(self.path(name), self.columns), None)
        except InputError:
            return None
        image = first is not None and posixpath.splitext(first.path)[1].lower() in SUFFIXES
        return self.place(name) if image else None

    def written(self, name: str, *, whole: bool = False) -> Written:
        """The labels in the file."""
        found = self.content(name)
        rows = self._rows(found, name)
        used = np.unique(found.labels if rows is None else found.labels[rows]).tolist()
        values = [found.values[index] for index in used]
        column = f" of {self.columns.label}" if self.columns.label else ""
        return Written(tuple(sorted(values)), f"labels{column} in the list", found.lines)

    def source(self, split: str, name: str, reading: Reading | None) -> ImageSource:
        """The images that the file lists."""
        found = self.content(name)
        rows = self._rows(found, name)
        if reading is None:
            labels = np.full(len(found.labels), OPEN, dtype=np.int64)
        else:
            table = np.full(len(found.values), OPEN, dtype=np.int64)
            used = np.unique(found.labels if rows is None else found.labels[rows])
            table[used] = reading.table([found.values[index] for index in used.tolist()])
            labels = table[found.labels]
        root = self.root if self.root is not None else self.path(name).parent
        if rows is None:
            return FileListing(root, found.paths, labels, listed=True)
        paths = Texts.pack(found.paths[index] for index in rows.tolist())
        return FileListing(root, paths, labels[rows], listed=True)

    def _rows(self, found: ListContent, name: str) -> IntArray | None:
        """The rows of a split, where a column tells; None for all."""
        if not self._column:
            return None
        return np.flatnonzero(found.parts == found.splits.index(name)).astype(np.int64)


def has_lists(folder: Path) -> str | None:
    """The suffix of the lists in a folder that are named after splits; None if there are none.

    Lists without one of training do not count beside class folders for training.
    """
    folders = {usual_split(path.name) for path in folder.glob("*") if path.is_dir()}
    for suffix in LISTS:
        found = {usual_split(p.stem) for p in folder.glob(f"*{suffix}") if p.is_file()} - {None}
        if found and ("train" in found or "train" not in folders):
            return suffix
    return None
