"""`alphafix neighbors`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from alphafix.commands import console
from alphafix.commands.flags import takes
from alphafix.commands.neighbors.options import NeighborsOptions

if TYPE_CHECKING:
    from rich.table import Table

    from alphafix.values.classes import ClassTable
    from alphafix.values.neighbors import Neighbours

app = typer.Typer(rich_markup_mode=None, add_completion=False)

# More rows than a screen holds help nobody; --csv and --json give all of them.
MOST_ROWS = 20


@app.command(epilog="Example: alphafix neighbors -k 5 --metric euclidean --csv neighbors.csv")
@takes(NeighborsOptions)
def neighbors(
    options: NeighborsOptions,
    json: Annotated[bool, typer.Option("--json", help="Print the neighbours as JSON.")] = False,
) -> None:
    """Find the base classes nearest to each few-split class, by their mean features."""
    from alphafix.commands.neighbors.work import find_neighbors

    console.show_log()
    classes, found = find_neighbors(options, progress=console.bar)
    if json:
        console.print_json(found.records(classes))
        return
    console.note(classes.describe())
    console.stderr.print(_table(classes, found))
    console.print_result(str(options.run / "neighbors.safetensors"))


def _table(classes: ClassTable, found: Neighbours) -> Table:
    records = found.records(classes)
    title = f"{found.k} nearest base classes ({found.metric})"
    if len(records) > MOST_ROWS:
        title += f", the first {MOST_ROWS} of {len(records)} few-split classes"
    rows = (
        [
            record["name"],
            record["train"],
            ", ".join(f"{near['name']} {near['distance']:.3g}" for near in record["neighbors"]),
        ]
        for record in records[:MOST_ROWS]
    )
    made = console.table(title, ["few-split class", "train", "neighbours and distances"], rows)
    made.columns[2].justify = "left"
    return made
