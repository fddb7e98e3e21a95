"""`alphafix patch`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from alphafix.cli import console
from alphafix.cli.flags import takes
from alphafix.options.patch import PatchOptions

if TYPE_CHECKING:
    from alphafix.checkpoints.plan import Change

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(epilog="Example: alphafix patch model.safetensors")
@takes(PatchOptions)
def patch(
    options: PatchOptions,
    json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> None:
    """Write the corrected rows into a copy of the model file, and nothing else."""
    from alphafix.stages.patch import patch as run_stage

    console.show_log()
    found = run_stage(options, progress=console.bar)
    if json:
        console.print_json(found.to_dict())
        return
    rows = [
        [change.tensor.name, change.tensor.dtype, f"{len(change.rows)} of {_classes(change)}"]
        for change in found.plan.changes
    ]
    console.stderr.print(console.table("changes", ["tensor", "dtype", "rows"], rows))
    console.print_result(str(found.target))


def _classes(change: Change) -> int:
    return change.tensor.shape[1 if change.transposed else 0]
