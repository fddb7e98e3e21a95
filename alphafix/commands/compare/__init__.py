"""`alphafix compare`."""

from __future__ import annotations

from alphafix.commands.command import Command
from alphafix.commands.compare.options import CompareOptions

COMMAND = Command(
    name="compare",
    options=CompareOptions,
    help="""Compare AlphaNet, its control and the simpler methods on the same features and split.

Writes compare.json and the picture of the trade-off, compare.svg and compare.png, into
the run directory.
""",
    example="alphafix compare --methods few-bias,logit-adjustment --rho 0.25,0.5,1",
    folder=__name__,
    feeds=False,
)
