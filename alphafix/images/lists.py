"""List files (``path label``) and CSV files."""

from __future__ import annotations

import csv
import re
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from alphafix.errors import InputError, option
from alphafix.images.data import ClassNames, PathData
from alphafix.images.listing import FileListing
from alphafix.images.source import OPEN, ImageSource
from alphafix.values.texts import Texts

# Column names that are understood, the first found is used.
PATH_COLUMNS = ("path", "file", "filename", "image", "image_path", "filepath")
LABEL_COLUMNS = ("label", "class", "target", "class_id", "category")

Record = tuple[int, str, str]
"""Line number, path, label."""


def list_records(path: Path) -> Iterator[Record]:
    """Read ``path label`` lines; the label is the last word, so that paths may hold spaces.

    Raises:
        InputError: If a line has no label, or the file is no UTF-8 text.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                text = line.rstrip("\r\n")
                if not text.strip():
                    continue
                name, _, label = text.rstrip().replace("\t", " ").rpartition(" ")
                if not name.strip():
                    raise _bad_line(path, number, text)
                yield number, name.strip(), label
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is no text in UTF-8", got=str(error), expected="lines of `path label`"
        ) from error


def csv_records(path: Path) -> Iterator[Record]:
    """Read a CSV file with a header that names a path and a label column.

    Raises:
        InputError: If one of the columns is not there, or the file is no UTF-8 text.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            columns = [name.strip().lower() for name in next(reader, [])]
            where = _column(path, columns, PATH_COLUMNS)
            what = _column(path, columns, LABEL_COLUMNS)
            for row in filter(None, reader):
                if len(row) <= max(where, what) or not row[what]:
                    raise _bad_line(path, reader.line_num, ",".join(row))
                yield reader.line_num, row[where], row[what].strip()
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is no CSV in UTF-8", got=str(error)) from error


def _column(path: Path, columns: list[str], known: tuple[str, ...]) -> int:
    for name in known:
        if name in columns:
            return columns.index(name)
    raise InputError(
        f"{path} has no column of that kind",
        got=f"columns {', '.join(columns) or 'none'}",
        expected=f"one of {', '.join(known)}",
        todo="rename the column in the first line",
    )


def records_of(path: Path) -> Iterator[Record]:
    """Read a list or CSV file, told by its suffix."""
    return csv_records(path) if path.suffix.lower() == ".csv" else list_records(path)


def class_names_of(path: Path) -> list[str] | None:
    """Names of the classes in a list whose labels are names; None if they are numbers."""
    names: set[str] = set()
    numbers = True
    for _, _, label in records_of(path):
        if label not in names:
            names.add(label)
            numbers = numbers and _is_integer(label)
    return None if numbers else sorted(names)


def read_list(
    path: Path,
    *,
    root: Path,
    prefixes: Mapping[str, str],
    ids: Mapping[str, int] | None,
    open_set: bool,
) -> FileListing:
    """Read a list or CSV file.

    Args:
        path: The file.
        root: Folder that its paths are relative to.
        prefixes: Beginnings of paths to replace; the longest that fits is used.
        ids: Class ids by name, or None where the labels are class ids.
        open_set: Whether the labels are to be ignored, all samples being of no known class.

    Raises:
        InputError: If a line is malformed, a class is unknown, or a path is there twice.
    """
    labels = array("q")
    ordered = sorted(prefixes.items(), key=lambda item: -len(item[0]))

    def paths() -> Iterator[str]:
        for number, name, label in records_of(path):
            labels.append(OPEN if open_set else _class_id(path, number, label, ids))
            yield next(
                (new + name[len(old) :] for old, new in ordered if name.startswith(old)), name
            )

    packed = Texts.pack(paths())
    return FileListing(root, packed, np.array(labels, dtype=np.int64))


def _class_id(path: Path, number: int, label: str, ids: Mapping[str, int] | None) -> int:
    if ids is not None and label in ids:
        return ids[label]
    if ids is None and _is_integer(label):
        return int(label)
    raise InputError(
        f"{path}, line {number}: unknown class",
        got=repr(label),
        expected="a class id from 0 to C-1" if ids is None else "a class that is known",
        todo=f"correct the list, or give all classes with {option('class_map')}",
    )


def _is_integer(text: str) -> bool:
    return re.fullmatch("-?[0-9]{1,18}", text) is not None  # more digits fit into no class id


def _bad_line(path: Path, number: int, text: str) -> InputError:
    return InputError(
        f"{path}, line {number} is no pair of path and label",
        got=repr(text[:80]),
        expected="relative/path/of/image.jpg 17",
        todo="correct the list",
    )


@dataclass(frozen=True)
class ListData(PathData):
    """List or CSV files.

    Attributes:
        root: Folder that the paths are relative to; that of the file by default.
        prefixes: Beginnings of paths to replace.
    """

    root: Path | None = None
    prefixes: Mapping[str, str] = field(default_factory=dict)

    def has(self, split: str) -> bool:
        """Whether the file is there."""
        return self.path(split).is_file()

    def class_names(self, split: str) -> ClassNames | None:
        """Names of the classes, if the labels are no numbers."""
        names = class_names_of(self.path(split))
        return None if names is None else ClassNames(tuple(names))

    def source(self, split: str, classes: tuple[str, ...] | None) -> ImageSource:
        """Read the file."""
        ids = None
        open_set = split == "open"
        if classes is not None and not open_set and class_names_of(self.path(split)) is not None:
            ids = {name: number for number, name in enumerate(classes)}
        root = self.root if self.root is not None else self.path(split).parent
        return read_list(
            self.path(split), root=root, prefixes=self.prefixes, ids=ids, open_set=open_set
        )
