"""`alphafix extract`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from alphafix.commands import console
from alphafix.commands.extract.options import ExtractOptions
from alphafix.commands.flags import takes

if TYPE_CHECKING:
    from rich.table import Table

    from alphafix.commands.extract.work import ExtractResult

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(
    epilog="Example: alphafix extract --backbone timm:resnet18 --weights model.safetensors "
    "--data data"
)
@takes(ExtractOptions)
def extract(
    options: ExtractOptions,
    json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Compute features of images with your model, and save its head."""
    from alphafix.commands.extract.work import extract as run_stage
    from alphafix.progress import silent

    # Under torchrun one process speaks for all.
    first = os.environ.get("RANK", "0") == "0"
    if first:
        console.show_log()
    found = run_stage(options, progress=console.bar if first else silent)
    if not first:
        return
    if json:
        console.print_json(found.to_dict())
        return
    console.stderr.print(_table(found))
    console.note(found.classes.describe())
    for split, count in found.skipped.items():
        if count:
            console.note(f"{count} images of {split} left out: see features/{split}/skipped.txt")
    console.print_result(str(options.run))


def _table(found: ExtractResult) -> Table:
    rows = (
        [name, *(f"{n:,}" for n in sizes.values())] for name, sizes in found.class_sizes().items()
    )
    return console.table("Classes and images", ["", "classes", *found.samples], rows)
