"""`alphafix neighbors`."""

from __future__ import annotations

from typing import Annotated

import typer

from alphafix.cli import console
from alphafix.cli.flags import takes
from alphafix.options.neighbors import NeighborsOptions

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(epilog="Example: alphafix neighbors -k 5 --metric euclidean --csv neighbors.csv")
@takes(NeighborsOptions)
def neighbors(
    options: NeighborsOptions,
    json: Annotated[bool, typer.Option("--json", help="Print the neighbours as JSON.")] = False,
) -> None:
    """Find the base classes nearest to each few-split class, by their mean features."""
    from alphafix.stages.neighbors import find_neighbors

    console.show_log()
    classes, found = find_neighbors(options, progress=console.bar)
    if json:
        console.print_json(found.records(classes))
        return
    console.note(classes.describe())
    console.stderr.print(_table(classes, found))
    console.print_result(str(options.run / "neighbors.safetensors"))
