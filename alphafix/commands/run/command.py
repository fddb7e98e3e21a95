"""`alphafix run`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from alphafix.commands import console
from alphafix.commands.flags import takes
from alphafix.commands.run.options import RecipeOptions

if TYPE_CHECKING:
    from alphafix.commands.run.work import Task

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(epilog="Example: alphafix run recipe.yaml --set train.rho=0.25 --dry-run")
@takes(RecipeOptions)
def run(
    options: RecipeOptions,
    json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> None:
    """Run the stages of a recipe; those that are up to date are left out.

    A recipe is a YAML file: `stages:` with one stage an item, each with its options by their
    names on the command line. Relative paths start from the recipe's folder.
    """
    from alphafix.commands.run.work import run_recipe

    console.show_log()
    found = run_recipe(options, progress=console.bar, say=console.note)
    if json:
        console.print_json(found.to_dict())
    elif options.dry_run:
        console.print_result(_plan(found.tasks))
    elif found.beside is not None:
        console.print_result(found.beside.text())
    else:
        console.print_result(str(found.run))


def _plan(tasks: tuple[Task, ...]) -> str:
    """One line a stage: its state, and the options that are not as by default."""
    lines = []
    for task in tasks:
        given = task.options.model_dump(mode="json", exclude_defaults=True)
        shown = " ".join(f"{name}={value}" for name, value in given.items())
        doubt = f" ({task.doubt})" if task.doubt else ""
        lines.append(f"{task.label:16} {task.state.value + doubt:15} {shown}".rstrip())
    return "\n".join(lines)
