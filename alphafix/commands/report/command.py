"""`alphafix report`."""

from __future__ import annotations

import typer

from alphafix.commands import console
from alphafix.commands.flags import takes
from alphafix.commands.report.options import ReportOptions

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(epilog="Example: alphafix report --output report")
@takes(ReportOptions)
def report(options: ReportOptions) -> None:
    """Write a page with the verdict, the trade-off, every class and all figures.

    The page needs no network: open it in any browser. Each figure is also written as SVG and
    PNG, and its data as CSV.
    """
    from alphafix.commands.report.work import report as run_stage

    console.show_log()
    console.print_result(str(run_stage(options, progress=console.bar)))
