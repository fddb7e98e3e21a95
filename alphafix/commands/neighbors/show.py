"""What a person sees of neighbours."""

from __future__ import annotations

from alphafix.commands.command import Shown
from alphafix.commands.neighbors.options import NeighborsOptions
from alphafix.commands.neighbors.work import NeighborsResult
from alphafix.shown import in_list
from alphafix.values.display import Table

# More rows than a screen holds help nobody; --csv and --json give all of them.
MOST_ROWS = 20


def show(found: NeighborsResult, options: NeighborsOptions) -> Shown:
    """The classes, their neighbours, and the file."""
    return Shown(str(found.file), [found.classes.describe(), _table(found)])


def _table(found: NeighborsResult) -> Table:
    neighbours, records = found.neighbours, found.to_dict()
    title = f"{neighbours.k} nearest other classes ({neighbours.metric})"
    if len(records) > MOST_ROWS:
        title += f", the first {MOST_ROWS} of {len(records)} few-split classes"
    rows = [
        [
            record["name"],
            record["train"],
            ", ".join(
                f"{in_list(near['name'])} {near['distance']:.3g}" for near in record["neighbors"]
            ),
        ]
        for record in records[:MOST_ROWS]
    ]
    return Table(title, ["few-split class", "train", "neighbours and distances"], rows, left=(2,))
