"""`alphafix patch`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from alphafix.commands import console
from alphafix.commands.flags import takes
from alphafix.commands.patch.options import PatchOptions

if TYPE_CHECKING:
    from alphafix.checkpoints.patch.planning import Plan
    from alphafix.commands.patch.effect import Effect
    from alphafix.commands.patch.work import PatchResult

app = typer.Typer(rich_markup_mode=None, add_completion=False)

DONE = {
    "copy": "written and verified",
    "in place": "changed in place and verified; `alphafix patch --revert` restores it",
    "delta": "the changed rows alone; apply them with `alphafix patch MODEL --apply`",
    "dry run": "nothing was written",
    "revert": "the changed bytes are the original's again",
}


@app.command(epilog="Example: alphafix patch model.safetensors")
@takes(PatchOptions)
def patch(
    options: PatchOptions,
    json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> None:
    """Write the corrected rows into a copy of the model file, and nothing else."""
    from alphafix.commands.patch.work import patch as run_stage

    console.show_log()
    found = run_stage(options, progress=console.bar)
    if json:
        console.print_json(found.to_dict())
        return
    _show(found)
    console.print_result(str(found.target))


def _show(found: PatchResult) -> None:
    if found.plan is not None:
        _show_changes(found.plan)
    if found.effect is not None:
        _show_effect(found.effect)
    console.note(f"{found.target}: {DONE[found.action]}")


def _show_changes(plan: Plan) -> None:
    rows = [
        [
            change.tensor.name,
            change.tensor.dtype,
            " x ".join(map(str, change.tensor.shape)),
            f"{len(change.rows)} of {change.tensor.shape[1 if change.transposed else 0]}",
        ]
        for change in plan.changes
    ]
    title = f"{plan.checkpoint.path.name}: rows that change"
    console.stderr.print(console.table(title, ["tensor", "dtype", "shape", "rows"], rows))


def _show_effect(effect: Effect) -> None:
    rows = [
        [split, *("n/a" if row[name] is None else f"{row[name]:.2f}" for name in row)]
        for split, row in effect.accuracy.items()
    ]
    title = f"top-1 in percent on {effect.samples:,} validation samples"
    columns = ["split", "before", "after (float32)", "after (as written)"]
    console.stderr.print(console.table(title, columns, rows))
    console.note(
        f"rounding to the file's element type changes {effect.changed_by_rounding} predictions"
    )
