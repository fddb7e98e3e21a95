"""Values as HTML, as notebooks show them."""

from __future__ import annotations

from alphafix.report.tables import table_of
from alphafix.report.templates import render


def html(value: object) -> str:
    """A value as a table: the first column to the left, the others to the right.

    Raises:
        TypeError: If there is no table of it.
    """
    table = table_of(value)
    left = len(table.rows) - table.most
    notes = [f"... and {left:,} more"] if left > 0 else []
    return render("table.html", table=table, notes=[*notes, *table.notes]).strip()
