"""`alphafix neighbors`."""

from __future__ import annotations

from alphafix.commands.command import Command
from alphafix.commands.neighbors.options import NeighborsOptions

COMMAND = Command(
    name="neighbors",
    options=NeighborsOptions,
    help="Find the base classes nearest to each few-split class, by their mean features.",
    example="alphafix neighbors -k 5 --metric euclidean --csv neighbors.csv",
    folder=__name__,
    begins=True,
)
