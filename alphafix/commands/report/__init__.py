"""`alphafix report`."""

from __future__ import annotations

from alphafix.commands.command import Command
from alphafix.commands.report.options import ReportOptions

COMMAND = Command(
    name="report",
    options=ReportOptions,
    help="""Write a page with the verdict, the trade-off, every class and all figures.

The page needs no network: open it in any browser. Each figure is also written as SVG and
PNG, and its data as CSV.
""",
    example="alphafix report --output report",
    folder=__name__,
    feeds=False,
)
