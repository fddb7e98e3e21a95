"""`alphafix compare`."""

from __future__ import annotations

from typing import Annotated

import typer

from alphafix.commands import console
from alphafix.commands.compare.options import CompareOptions
from alphafix.commands.flags import takes

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(
    epilog="Example: alphafix compare --methods few-bias,logit-adjustment --rho 0.25,0.5,1"
)
@takes(CompareOptions)
def compare(
    options: CompareOptions,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Compare AlphaNet, its control and the simpler methods on the same features and split.

    Writes compare.json and the picture of the trade-off, compare.svg and compare.png, into
    the run directory.
    """
    from alphafix.commands.compare.work import compare as run_stage
    from alphafix.report.text import text

    console.show_log()
    found = run_stage(options, progress=console.bar)
    if json:
        console.print_json(found.to_dict())
    else:
        console.print_result(text(found))
