"""What a paper reports, beside what was measured."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alphafix.documents import Node, read_document
from alphafix.errors import FileFormatError

KEYS = ("source", "on", "columns", "rows", "forms", "note", "figure")

FORMS = ("paper", "official", "released")
"""Presets of `train`, by one of which a table's figures were made."""


@dataclass(frozen=True)
class Cell:
    """A figure.

    Attributes:
        value: The figure, or a mean over trials.
        spread: Standard deviation over trials, if there are several.
    """

    value: float
    spread: float | None = None

    def __str__(self) -> str:
        return f"{self.value:.1f}" + ("" if self.spread is None else f"±{self.spread:.2f}")

    @classmethod
    def parse(cls, value: object) -> Cell | None:
        """Read ``47.6``, ``47.6±1.60``, or nothing.

        Raises:
            ValueError: If it is something else.
        """
        if value is None:
            return None
        mean, sign, spread = str(value).partition("±")
        return cls(float(mean), float(spread) if sign else None)


# A file's name, which cannot lead elsewhere.
FIGURE_NAME = re.compile("[A-Za-z0-9]+(-[A-Za-z0-9]+)*")

Row = Mapping[str, Cell | None]


@dataclass(frozen=True)
class Lines:
    """Rows of a table that are the points of a figure's lines.

    Attributes:
        name: Name of its files.
        title: Its heading.
        axis: What ``at`` is.
        row: Name of the row of a line and a value, like "power-{x}-{line}".
        lines: Names of the lines.
        at: Their values.
    """

    name: str
    title: str
    axis: str
    row: str
    lines: tuple[str, ...]
    at: tuple[float, ...]

    def row_of(self, line: str, x: float) -> str:
        """The row of a point."""
        return self.row.replace("{line}", line).replace("{x}", f"{x:g}")


@dataclass(frozen=True)
class Expected:
    """A table of a paper.

    Attributes:
        source: Paper and table.
        on: The split that its figures are of.
        columns: Names of its columns.
        rows: Its rows by name, a figure a column.
        forms: Presets of `train` by whose code the figures may have been made, as far as it is
            known that they differ.
        note: What to know about it.
        figure: The figure that the paper draws of it, if it does.
    """

    source: str
    on: str
    columns: tuple[str, ...]
    rows: dict[str, Row]
    forms: tuple[str, ...] = ()
    note: str = ""
    figure: Lines | None = None


def read_expected(path: Path) -> Expected:
    """Read a table.

    Raises:
        InputError: If it is not there.
        FileFormatError: If it is not such a table.
    """
    parts = read_document(path).mapping("a table of expected figures")
    missing = [name for name in ("source", "columns", "rows") if name not in parts]
    unknown = [name for name in parts if name not in KEYS]
    if missing or unknown:
        raise FileFormatError(
            f"{path} is no table of expected figures",
            got=f"no {missing[0]}" if missing else f"a part {unknown[0]}",
            expected=", ".join(KEYS),
        )
    columns = tuple(str(name) for name in parts["columns"].plain())
    return Expected(
        source=str(parts["source"].plain()),
        on=str(parts["on"].plain()) if "on" in parts else "test",
        columns=columns,
        rows={name: _row(node, columns) for name, node in parts["rows"].mapping("rows").items()},
        forms=_forms(parts["forms"]) if "forms" in parts else (),
        note=str(parts["note"].plain()) if "note" in parts else "",
        figure=_lines(parts["figure"], list(parts["rows"].mapping("rows")))
        if "figure" in parts
        else None,
    )


def _lines(node: Node, rows: Sequence[str]) -> Lines:
    values = {name: own.plain() for name, own in node.mapping("a figure").items()}
    try:
        at = tuple(float(x) for x in values.pop("at"))
        lines = tuple(str(line) for line in values.pop("lines"))
        found = Lines(**{name: str(own) for name, own in values.items()}, lines=lines, at=at)
        missing = {found.row_of(line, x) for line in lines for x in at} - set(rows)
        if missing or not lines or not FIGURE_NAME.fullmatch(found.name):
            raise ValueError(min(missing, default=found.name))
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(
            f"{node.place}: this is no figure of the table",
            got=str(error)[:80],
            expected="name (letters, digits and hyphens), title, axis, row (a row's name with "
            "{line} and {x}), lines and at (lists)",
        ) from error
    return found


def _forms(node: Node) -> tuple[str, ...]:
    values = node.plain()
    if not isinstance(values, list) or any(value not in FORMS for value in values):
        raise FileFormatError(
            f"{node.place}: these are no forms of AlphaNet",
            got=repr(values)[:80],
            expected=f"a list of {', '.join(FORMS)}",
        )
    return tuple(values)


def _row(node: Node, columns: Sequence[str]) -> Row:
    values = node.plain()
    try:
        if not isinstance(values, list) or len(values) != len(columns):
            raise ValueError(values)
        return dict(zip(columns, map(Cell.parse, values), strict=True))
    except ValueError as error:
        raise FileFormatError(
            f"{node.place}: this is no row of the table",
            got=repr(values)[:80],
            expected=f"{len(columns)} figures like 47.6 or 47.6±1.60, one for each of "
            + ", ".join(columns),
        ) from error


@dataclass(frozen=True)
class Beside:
    """Expected and measured figures.

    Attributes:
        expected: The table.
        measured: Figures by row and column; rows and columns that were not measured lack.
        forms: The same by each of the table's forms, where it differs from ``measured``.
    """

    expected: Expected
    measured: Mapping[str, Row]
    forms: Mapping[str, Mapping[str, Row]] = field(default_factory=dict)

    def by_form(self, name: str) -> dict[str, Row]:
        """A row as each other form gives it, where that is another than what was measured."""
        found = {form: rows[name] for form, rows in self.forms.items() if name in rows}
        return {form: row for form, row in found.items() if row != self.measured.get(name)}

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""

        def plain(row: Row) -> dict[str, Any]:
            return {name: None if cell is None else vars(cell) for name, cell in row.items()}

        return {
            "source": self.expected.source,
            "on": self.expected.on,
            "rows": [
                {
                    "name": name,
                    "expected": plain(row),
                    "measured": plain(self.measured[name]) if name in self.measured else None,
                    **{form: plain(own) for form, own in self.by_form(name).items()},
                }
                for name, row in self.expected.rows.items()
            ],
        }
