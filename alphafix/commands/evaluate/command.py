"""`alphafix evaluate`."""

from __future__ import annotations

from typing import Annotated

import typer

from alphafix.commands import console
from alphafix.commands.evaluate.options import EvaluateOptions
from alphafix.commands.flags import takes
from alphafix.errors import GateError, option

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(epilog="Example: alphafix evaluate --max-overall-drop 2 --min-few-gain 5")
@takes(EvaluateOptions)
def evaluate(
    options: EvaluateOptions,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Compare base and corrected accuracy; exit with code 3 if a gate is not met."""
    from alphafix.commands.evaluate.work import evaluate as run_stage
    from alphafix.commands.evaluate.work import gates_of, write_outputs
    from alphafix.metrics.gates import check_gates, failed
    from alphafix.report.text import text

    console.show_log()
    found = run_stage(options, progress=console.bar)
    outcomes = check_gates(found, gates_of(options))
    write_outputs(found, outcomes, options)
    if json:
        gates = [outcome.to_dict() for outcome in outcomes]
        console.print_json({**found.to_dict(), "gates": gates})
    else:
        console.print_result(text(found))
    if failing := failed(outcomes):
        lines = [f"{option(outcome.gate)}: {outcome.line}" for outcome in failing]
        raise GateError("\n".join(["a gate is not met", *lines]))
