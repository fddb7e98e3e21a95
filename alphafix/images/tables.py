"""Rows of lists (``path label``), of tables with a header (CSV, TSV) and of JSON lines."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from alphafix.errors import InputError, option, some
from alphafix.images.names import usual_split
from alphafix.reading.boundary import require_file
from alphafix.reading.schema import parse_json

# Column names that are understood.
PATH_COLUMNS = frozenset(
    f"{what}{more}"
    for what in ("path", "file", "filename", "filepath", "image", "img")
    for more in ("", "s", "_path", "_name", "_file")
)
LABEL_COLUMNS = frozenset(
    f"{what}{more}"
    for what in ("label", "class", "target", "category")
    for more in ("", "s", "es", "_id", "_name", "name", "_label")
)
SPLIT_COLUMN = "split"
# These mean splits only where their values do: "set" can be anything.
SPLIT_COLUMNS = frozenset({SPLIT_COLUMN, "subset", "partition", "set", "data_set"})

TABLES = {".csv": ",", ".tsv": "\t"}
_ENDING = re.compile(r"(jpe?g|png|webp|bmp|gif|tiff?)(\s.*)?", re.IGNORECASE)

LISTS = (".txt", *TABLES, ".jsonl")


class Row(NamedTuple):
    """One image of a list.

    Attributes:
        line: Line number.
        path: Its path, as written.
        label: Its label, as written.
        split: What its column of splits says; "" without one.
    """

    line: int
    path: str
    label: str
    split: str = ""


@dataclass(frozen=True)
class Columns:
    """What the user says of a table's columns.

    Attributes:
        path: Name of the column of paths.
        label: Name of the column of labels.
    """

    path: str | None = None
    label: str | None = None


def rows_of(path: Path, columns: Columns | None = None) -> Iterator[Row]:
    """Read a list or table, told by its suffix.

    Raises:
        InputError: If a line is malformed, a column is not certain, or the file is no UTF-8 text.
    """
    wanted = columns or Columns()
    suffix = path.suffix.lower()
    require_file(path, "a list of images")
    try:
        # "utf-8-sig" takes the mark off that Windows programs put before the text.
        with path.open(encoding="utf-8-sig", newline="" if suffix in TABLES else None) as file:
            if suffix in TABLES:
                yield from _table(path, file, wanted)
            elif suffix == ".jsonl":
                yield from _json_lines(path, file, wanted)
            else:
                yield from _list(path, file)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is no text in UTF-8", got=str(error), todo="save it as UTF-8"
        ) from error
    except csv.Error as error:
        raise InputError(f"{path} is no table", got=str(error)) from error


def _list(path: Path, file: Iterator[str]) -> Iterator[Row]:
    """Lines ``path label``: the label is what follows the last tab, or the last word.

    So paths may hold spaces, and labels too where a tab is before them.
    """
    for number, line in enumerate(file, start=1):
        text = line.rstrip("\r\n")
        if not text.strip():
            continue
        name, _, label = text.rstrip().rpartition("\t" if "\t" in text.strip() else " ")
        if not name.strip():
            raise _bad_line(path, number, text)
        if _goes_on(name.strip()):
            raise InputError(
                f"{path}, line {number}: it is not certain where the label begins",
                got=repr(text[:80]),
                expected="`path label`, the label being one word",
                todo="put a tab before labels that hold spaces, or give a table (.csv)",
            )
        yield Row(number, name.strip(), label.strip())


def _goes_on(name: str) -> bool:
    """Whether words stand behind what looks like the whole path of an image: part of a label."""
    found = [_ENDING.fullmatch(part) for part in name.rpartition("/")[2].split(".")[1:]]
    return any(found) and (found[-1] is None or found[-1].group(2) is not None)


def _table(path: Path, file: Any, wanted: Columns) -> Iterator[Row]:
    header = file.readline()
    usual = TABLES[path.suffix.lower()]
    delimiter = max((usual, ",", ";", "\t"), key=lambda mark: (header.count(mark), mark == usual))
    names = next(csv.reader([header], delimiter=delimiter), [])
    where = _column(path, names, PATH_COLUMNS, wanted.path, "paths", "image_key")
    what = _column(path, names, LABEL_COLUMNS, wanted.label, "labels", "label_key")
    part = next((i for i, name in enumerate(names) if _plain(name) in SPLIT_COLUMNS), None)
    reader = csv.reader(file, delimiter=delimiter)
    for row in reader:
        if not row:
            continue
        line = reader.line_num + 1
        if len(row) != len(names):
            raise InputError(
                f"{path}, line {line} has another number of columns than the first line",
                got=f"{len(row)}: {delimiter.join(row)[:80]!r}",
                expected=f"{len(names)}",
                todo="put a text that holds the delimiter in quotes",
            )
        found = Row(line, row[where], row[what].strip(), "" if part is None else row[part].strip())
        if not found.path or not found.label:
            raise _bad_line(path, line, delimiter.join(row))
        yield found


def _json_lines(path: Path, file: Iterator[str], wanted: Columns) -> Iterator[Row]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            data = parse_json(line)
        except ValueError as error:
            raise _bad_line(path, number, line) from error
        if not isinstance(data, dict):
            raise _bad_line(path, number, line)
        names = list(data)
        where = names[_column(path, names, PATH_COLUMNS, wanted.path, "paths", "image_key")]
        what = names[_column(path, names, LABEL_COLUMNS, wanted.label, "labels", "label_key")]
        part = next((data[name] for name in names if _plain(name) in SPLIT_COLUMNS), "")
        label = data[what]
        if not isinstance(label, str | int) or not data[where] or label == "":
            raise _bad_line(path, number, line)
        yield Row(number, str(data[where]), str(label), str(part))


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _column(
    path: Path,
    names: Sequence[str],
    known: frozenset[str],
    wanted: str | None,
    what: str,
    keyword: str,
) -> int:
    """Position of a column.

    Raises:
        InputError: If there is none, or more than one that could be meant.
    """
    found = [
        i
        for i, name in enumerate(names)
        if (_plain(name) in known if wanted is None else name.strip() == wanted)
    ]
    if len(found) == 1:
        return found[0]
    shown = [repr(name) if not name.strip() else name.strip() for name in names]
    if not found:
        raise InputError(
            f"{path} has no column of {what}" + ("" if wanted is None else f" named {wanted}"),
            got=f"columns {', '.join(shown) or 'none'}",
            expected=f"one of {some(sorted(known), 8)}" if wanted is None else f"{wanted}",
            todo=f"name the column with {option(keyword)}",
        )
    alike = [shown[i] for i in found]
    raise InputError(
        f"which column of {path} holds the {what} is not certain",
        got=f"{' and '.join(alike)} could be it",
        expected="one",
        todo=f"say which: {option(keyword, alike[0])}"
        if len(set(alike)) > 1
        else "rename one of them in the first line",
    )


def understood_splits(names: Sequence[str], given: Sequence[str] = ()) -> bool:
    """Whether all values of a column mean splits."""
    return bool(names) and all(name in given or usual_split(name) for name in names)


def _bad_line(path: Path, number: int, text: str) -> InputError:
    return InputError(
        f"{path}, line {number} is no pair of path and label",
        got=repr(text.strip()[:80]),
        expected="relative/path/of/image.jpg 17",
        todo="correct the list",
    )
