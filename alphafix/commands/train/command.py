"""`alphafix train`."""

from __future__ import annotations

from typing import Annotated

import typer

from alphafix.commands import console
from alphafix.commands.flags import takes
from alphafix.commands.train.options import TrainOptions

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(epilog="Example: alphafix train --rho 0.25,0.5,1,2 --seeds 10")
@takes(TrainOptions)
def train(
    options: TrainOptions,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print bytes and steps of the run, and do not train.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train AlphaNet: corrected rows for the few-split classes."""
    from alphafix.commands.train import show as trials_table
    from alphafix.commands.train import work as stage

    console.show_log()
    if plan:
        console.print_json(stage.plan(options).to_dict())
        return
    correction = stage.train(options, progress=console.bar)
    summary = trials_table.summary(correction)
    if json:
        console.print_json(summary)
        return
    trials_table.show(summary)
    console.print_result(str(options.run / "alphanet.safetensors"))
