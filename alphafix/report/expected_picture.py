"""A figure that a paper draws of several models: measured rows of a recipe's table as lines."""

from __future__ import annotations

from alphafix.recipes.expected import Beside, Lines
from alphafix.report.pictures import Picture
from alphafix.report.style import MANY, MARK, MEDIUM, OVERALL, canvas

# Looks of the lines, the last one's first: what a paper proposes comes last in its tables.
_LOOKS = ((OVERALL, "-", "o"), (MEDIUM, "--", "s"), (MANY, ":", "^"), (MARK, "-.", "D"))


def expected_picture(found: Beside, lines: Lines) -> Picture:
    """A panel for each column of the table, a line for each model (OLTR, Figures 8 a and 8 c).

    Args:
        found: What was measured; what was not is a gap.
        lines: Which rows are a line.
    """
    columns = found.expected.columns
    values = {
        (line, x, column): None if cell is None else cell.value
        for line in lines.lines
        for x in lines.at
        for column in columns
        for cell in [found.measured.get(lines.row_of(line, x), {}).get(column)]
    }
    rows = [
        [line, x, *(values[line, x, column] for column in columns)]
        for line in lines.lines
        for x in lines.at
    ]
    said: dict[str, list[str]] = {}
    width = 2.9 * len(columns) + 0.8
    with canvas(figsize=(width, 3.6), ncols=len(columns), squeeze=False) as (made, axes):
        for panel, column in zip(axes[0], columns, strict=True):
            for number, line in enumerate(lines.lines):
                color, style, marker = _LOOKS[(len(lines.lines) - 1 - number) % len(_LOOKS)]
                known = [(x, values[line, x, column]) for x in lines.at]
                # Matplotlib leaves out what is not a number.
                ys = [float("nan") if y is None else y for _, y in known]
                gid = f"{'-'.join(column.split())}-{number}"
                panel.plot(
                    lines.at, ys, style, marker=marker, ms=4, color=color, label=line, gid=gid
                )
                said[gid] = [f"{line}: {y:.1f} at {x:g}" for x, y in known if y is not None]
            panel.set_title(column)
            panel.set_xlabel(lines.axis)
            panel.set_xticks(lines.at, [f"{x:g}" for x in lines.at])
        axes[0, 0].set_ylabel("%")
        handles = axes[0, 0].get_legend_handles_labels()
        made.legend(*handles, loc="outside lower center", ncols=4)
    header = ["model", lines.axis, *columns]
    return Picture(lines.name, lines.title, found.expected.source, made, header, rows, said)
