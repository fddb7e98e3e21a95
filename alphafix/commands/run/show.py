"""What a person sees of a recipe: its plan, its figures, or where its results are."""

from __future__ import annotations

from alphafix.commands.command import Shown
from alphafix.commands.run.options import RecipeOptions
from alphafix.commands.run.work import RecipeResult, Task
from alphafix.shown import in_one_line


def show(found: RecipeResult, options: RecipeOptions) -> Shown:
    """The plan of a dry run, measured against expected figures, or the run directory."""
    if options.dry_run:
        return Shown("\n".join(_line(task) for task in found.tasks))
    return Shown(str(found.run) if found.beside is None else found.beside.text())


def _line(task: Task) -> str:
    """A stage: its state, and the options that are not as by default."""
    given = task.options.model_dump(mode="json", exclude_defaults=True)
    shown = " ".join(f"{name}={value}" for name, value in given.items())
    doubt = f" ({task.doubt})" if task.doubt else ""
    return in_one_line(f"{task.label:16} {task.state.value + doubt:15} {shown}".rstrip())
