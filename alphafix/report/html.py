"""Values as HTML tables, which notebooks show; every text is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

# Rows shown of a table with one row a class; a notebook is not a place for thousands.
MOST_ROWS = 20


def table_html(
    title: str,
    header: Sequence[str],
    rows: Sequence[Sequence[object]],
    *notes: str,
    most: int = MOST_ROWS,
) -> str:
    """Return a table: the first column to the left, the others to the right.

    Args:
        title: Its caption.
        header: Names of the columns.
        rows: The cells.
        *notes: Lines under the table.
        most: Rows that are shown; of the others only their number is told.
    """
    left = len(rows) - most
    notes = (f"... and {left:,} more", *notes) if left > 0 else notes
    body = "".join(_row("td", row) for row in rows[:most])
    head = f"<thead>{_row('th', header)}</thead>" if header else ""
    caption = f'<caption style="text-align:left">{escape(title)}</caption>'
    under = "".join(f"<div><small>{escape(note)}</small></div>" for note in notes)
    return f"<div><table>{caption}{head}<tbody>{body}</tbody></table>{under}</div>"


def _row(tag: str, cells: Sequence[object]) -> str:
    sides = ["left", *["right"] * len(cells)]
    inner = "".join(
        f'<{tag} style="text-align:{side}">{escape(str(cell))}</{tag}>'
        for cell, side in zip(cells, sides, strict=False)
    )
    return f"<tr>{inner}</tr>"
