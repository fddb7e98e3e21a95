"""`alphafix make-lt`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from alphafix.commands import console
from alphafix.commands.flags import takes
from alphafix.commands.make_lt.options import MakeLtOptions

if TYPE_CHECKING:
    from rich.table import Table

    from alphafix.commands.make_lt.work import MadeLists

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(epilog="Example: alphafix make-lt --data photos --output photos-lt --open-classes 10")
@takes(MakeLtOptions)
def make_lt(
    options: MakeLtOptions,
    json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Draw long-tailed training lists, balanced val and test lists, and open classes.

    Paths in the lists are relative to --data: `alphafix extract --data LISTS --root DATA`.
    """
    from alphafix.commands.make_lt.work import make_lists, verify_lists

    console.show_log()
    if options.verify is not None:
        names = verify_lists(options)
        if json:
            console.print_json({"verified": list(names)})
        else:
            console.print_result("\n".join(f"{name}: OK" for name in names))
        return
    made = make_lists(options)
    console.note(made.classes.describe())
    console.stderr.print(_table(made))
    listed = made.folder / "classes.txt"
    console.note(f"read with: --data {made.folder} --root {made.root} --class-map {listed}")
    if json:
        console.print_json({"output": str(made.folder), **made.manifest})
    else:
        console.print_result(str(made.folder))


def _table(made: MadeLists) -> Table:
    rows = []
    for split, listed in made.lists.lists.items():
        if split == "open":
            classes, span = len(made.lists.open_names), ""
        else:
            counts = made.lists.counts(split)
            classes, span = len(counts), f"{counts.max()} to {counts.min()}"
        rows.append([split, classes, f"{len(listed):,}", span])
    return console.table("lists", ["split", "classes", "images", "a class"], rows)
