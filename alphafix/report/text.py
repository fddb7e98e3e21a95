"""Values as plain text, as the command line prints them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch

from alphafix.metrics.comparison import Comparison
from alphafix.metrics.evaluation import Evaluation
from alphafix.report.tables import heading, interval_note, legend, other_figures, table_of
from alphafix.shown import in_one_line
from alphafix.values.display import Table


@singledispatch
def text(value: object) -> str:
    """A value as text that ends with a line break.

    Raises:
        TypeError: If there is no table of it.
    """
    table = table_of(value)
    return _lines([table.title], table_lines(table), *([[*table.notes]] if table.notes else []))


@text.register
def _evaluation(value: Evaluation) -> str:
    top1, others = table_lines(table_of(value)), table_lines(other_figures(value))
    return _lines(heading(value), top1, others, [interval_note(value)])


@text.register
def _comparison(value: Comparison) -> str:
    table = table_of(value)
    title = [table.title, value.classes.describe()]
    return _lines(title, table_lines(table), legend(value), value.verdict)


def table_lines(table: Table) -> list[str]:
    """Lines of aligned columns: the first to the left, as all in ``left``, others to the right."""
    rows = [[in_one_line(str(cell)) for cell in row] for row in (table.header, *table.rows) if row]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i in (0, *table.left) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _lines(*parts: Sequence[str]) -> str:
    """Parts with an empty line between them."""
    return "\n\n".join("\n".join(map(in_one_line, part)) for part in parts) + "\n"
