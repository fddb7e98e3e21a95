"""`alphafix inspect`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from alphafix.commands import console
from alphafix.commands.flags import takes
from alphafix.commands.inspect.options import InspectOptions

if TYPE_CHECKING:
    from rich.table import Table

    from alphafix.commands.inspect.work import Inspection

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(epilog="Example: alphafix inspect model.safetensors")
@takes(InspectOptions)
def inspect(
    options: InspectOptions,
    json: Annotated[bool, typer.Option("--json", help="Print all that is known as JSON.")] = False,
) -> None:
    """Show which layers of a model file could be the head; print its name if one must be it."""
    from alphafix.commands.inspect.work import inspect as run_stage

    console.show_log()
    found = run_stage(options)
    if json:
        console.print_json(found.to_dict())
        return
    console.stderr.print(_table(found))
    if found.head is not None:
        console.print_result(found.head.name)
    else:
        console.note(f"no head taken: {found.doubt}")


def _table(found: Inspection) -> Table:
    checkpoint = found.checkpoint
    splits = list(found.shown[0].norms) if found.shown else ["overall"]
    title = f"{checkpoint.path.name}: {checkpoint.format}, {len(checkpoint.tensors)} tensors"
    if found.others:
        title += f"; the likeliest {len(found.shown)} of {len(found.shown) + found.others} layers"
    rows = [
        [
            ("-> " if item.candidate == found.head else "   ") + item.candidate.name,
            item.candidate.source.kind,
            f"{item.candidate.num_classes} x {item.candidate.width}",
            item.candidate.dtype,
            "yes" if item.candidate.source.biases else "no",
            *("n/a" if (n := item.norms.get(split)) is None else f"{n:.4g}" for split in splits),
        ]
        for item in found.shown
    ]
    columns = ["layer", "kind", "C x D", "dtype", "bias", *(f"norm {split}" for split in splits)]
    return console.table(title, columns, rows)
