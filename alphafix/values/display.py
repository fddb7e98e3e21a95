"""Tables of values, and how values show themselves in notebooks.

A notebook asks a value for its HTML by a method of the value itself, while tables and figures
are made in `alphafix.report`, which lies above the values and imports them. So a value only
has the method, and the top of the package says by name who answers: nothing of the report is
loaded before a value is shown, and no value imports what shows it.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass

# Rows that a notebook shows of a table with one row a class; it is no place for thousands.
MOST_ROWS = 20


class Cell(str):
    """A figure in a table, which can also be said in fewer characters.

    Attributes:
        short: Without its interval, for a narrow terminal: "+8.5" of "+8.5 [+7.0, +10.0]".
        tone: 1 for a change to the better, -1 to the worse, 0 for what is neither or not sure;
            None for a figure that is no change.
    """

    short: str
    tone: int | None

    def __new__(cls, text: str, short: str | None = None, tone: int | None = None) -> Cell:
        """A figure, like any text."""
        cell = super().__new__(cls, text)
        cell.short, cell.tone = text if short is None else short, tone
        return cell


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: What it is of.
        header: Its columns, or none.
        rows: Its cells, as text or numbers.
        notes: What its signs mean, and what else belongs to it.
        most: Rows that a notebook shows.
        left: Positions of the columns, beside the first, that are text: set to the left, and
            broken between words where there is no room.
        spare: Names of the columns that a narrow terminal can do without, the least first.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[object]]
    notes: Sequence[str] = ()
    most: int = MOST_ROWS
    left: tuple[int, ...] = ()
    spare: tuple[str, ...] = ("medium", "many")


Part = Table | str
"""A piece of what is shown: a table, or lines of text."""

_shown_by: tuple[str, str] | None = None


def show_by(module: str, function: str) -> None:
    """Name the function that gives the HTML of a value; it is imported when one is shown."""
    global _shown_by
    _shown_by = (module, function)


class Displayed:
    """A value that notebooks show as a table."""

    def _repr_html_(self) -> str | None:
        """The value as HTML, or None (a notebook then shows its repr) if nobody makes it."""
        if _shown_by is None:
            return None
        module, function = _shown_by
        html: str = getattr(importlib.import_module(module), function)(self)
        return html
