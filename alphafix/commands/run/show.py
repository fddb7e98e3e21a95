"""What a person sees of a recipe: its plan, its figures, or where its results are."""

from __future__ import annotations

from alphafix.commands.command import Shown
from alphafix.commands.run.options import RecipeOptions
from alphafix.commands.run.task import Task
from alphafix.commands.run.work import RecipeResult
from alphafix.recipes.expected import Beside, Cell
from alphafix.remote import as_given
from alphafix.shown import in_one_line
from alphafix.values.display import Table


def show(found: RecipeResult, options: RecipeOptions) -> Shown:
    """The plan of a dry run, measured against expected figures, or the run directory."""
    if options.dry_run:
        return Shown("\n".join(_line(task) for task in found.tasks))
    told = [
        f"{label}: the base model is kept, nothing is corrected: {why}"
        for label, why in found.kept.items()
    ]
    told += [f"wrote {path}" for path in found.figures]
    return Shown(
        as_given(found.run) if found.beside is None else [beside_table(found.beside)], told
    )


def _line(task: Task) -> str:
    """A stage: its state, and the options that are not as by default."""
    given = task.options.model_dump(mode="json", exclude_defaults=True)
    shown = " ".join(f"{name}={value}" for name, value in given.items())
    doubt = f" ({task.doubt})" if task.doubt else ""
    return in_one_line(f"{task.label:16} {task.state.value + doubt:15} {shown}".rstrip())


def beside_table(found: Beside) -> Table:
    """What is expected, what was measured, and the difference of both."""
    columns, rows = found.expected.columns, []
    for name, expected in found.expected.rows.items():
        rows.append([name, "expected", *(_cell(expected.get(column)) for column in columns)])
        measured = found.measured.get(name, {})
        if any(measured.get(column) is not None for column in columns):
            rows.append(["", "measured", *(_cell(measured.get(column)) for column in columns)])
            both = [(expected.get(column), measured.get(column)) for column in columns]
            changes = (f"{b.value - a.value:+.1f}" if a and b else "-" for a, b in both)
            rows.append(["", "difference", *changes])
        for form, own in found.by_form(name).items():
            rows.append(["", f"preset {form}", *(_cell(own.get(column)) for column in columns)])
    unmeasured = [name for name in found.expected.rows if name not in found.measured]
    notes = [f"not measured: {', '.join(unmeasured)}"] if unmeasured else []
    notes += [found.expected.note] if found.expected.note else []
    return Table(found.expected.source, ["", "", *columns], rows, notes, left=(1,))


def _cell(cell: Cell | None) -> str:
    return "-" if cell is None else str(cell)
