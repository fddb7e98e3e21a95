"""`alphafix import`."""

from __future__ import annotations

from typing import Annotated

import typer

from alphafix.commands import console
from alphafix.commands.flags import takes
from alphafix.commands.import_.options import ForeignOptions

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(
    epilog="Example: alphafix import alphanet-official ImageNetLT --allow-pickle --run imagenet"
)
@takes(ForeignOptions)
def import_(
    options: ForeignOptions,
    json: Annotated[bool, typer.Option("--json", help="Print what was made as JSON.")] = False,
) -> None:
    """Take features, heads and checkpoints of other projects.

    Features and a head become a run directory, from which `alphafix neighbors` goes on; a
    checkpoint becomes a plain model file (for oltr a folder), for `alphafix extract` and
    `alphafix patch`. Of torch files only tensors are read; nothing in them can run.
    """
    from alphafix.commands.import_.work import import_foreign

    console.show_log()
    found = import_foreign(options, progress=console.bar)
    if json:
        console.print_json(found.to_dict())
        return
    if found.classes is not None:
        console.note(found.classes.describe())
    for split, value in (found.accuracy or {}).items():
        console.note(f"top-1 of the head on {split}: {value:.1f}%")
    if found.model is not None and found.run is not None:
        console.note(f"the model in plain form: {found.model}")
    if found.kind == "oltr" and found.model is not None:
        console.note(f"use it with: alphafix extract --backbone oltr:{found.model.parent}")
    console.print_result(str(found.run or found.model))
