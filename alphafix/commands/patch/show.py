"""What a person sees of a patch."""

from __future__ import annotations

import shlex

from alphafix.checkpoints.patch.planning import PatchPlan
from alphafix.commands.command import Shown
from alphafix.commands.patch.effect import Effect
from alphafix.commands.patch.options import PatchOptions
from alphafix.commands.patch.work import PatchResult
from alphafix.errors import counted
from alphafix.report.cells import number
from alphafix.values.display import Part, Table

DONE = {
    "copy": "written and verified",
    "in place": "changed in place and verified; `alphafix patch --revert {file}` restores it",
    "delta": "the changed rows alone; apply them with `alphafix patch {file} --apply {target}`",
    "up to date": "up to date",
    "dry run": "nothing was written",
    "revert": "the changed bytes are the original's again",
}

KEPT = {
    "copy": "; the copy is the model as it was",
    "in place": "; the file is as it was",
    "delta": "; the delta holds the rows of the model as it was",
}
"""What was done, where the correction is the base model."""


def show(found: PatchResult, options: PatchOptions) -> Shown:
    """What changes, what it does to accuracy, and what was done."""
    told: list[Part] = []
    if found.plan is not None:
        told.append(_changes(found.plan, kept=found.kept_because is not None))
    if found.effect is not None:
        told += _effect(found.effect)
    file, target = (shlex.quote(str(path)) for path in (options.file, found.target))
    done = [f"{found.target}: {DONE[found.action].format(file=file, target=target)}"]
    if found.kept_because is not None:
        done.append(
            f"the base model is kept, nothing is corrected: {found.kept_because}"
            f"{KEPT.get(found.action, '')}"
        )
    if found.action == "dry run":  # the plan is the result: there is no file at the target
        return Shown(told, done)
    return Shown(str(found.target), [*told, *done])


def _changes(plan: PatchPlan, *, kept: bool) -> Table:
    rows = [
        [
            change.tensor.name,
            change.tensor.dtype,
            " x ".join(map(str, change.tensor.shape)),
            f"{len(change.rows)} of {change.num_classes}",
        ]
        for change in plan.changes
    ]
    title = (
        f"{plan.checkpoint.path.name}: {'rows of the base model' if kept else 'rows that change'}"
    )
    return Table(title, ["tensor", "dtype", "shape", "rows"], rows)


def _effect(effect: Effect) -> tuple[Table, str]:
    rows = [
        [tier, *(number(value, ".2f") for value in row.values())]
        for tier, row in effect.accuracy.items()
    ]
    title = f"top-1 in percent on {effect.samples:,} validation samples"
    columns = ["split", "before", "after (float32)", "after (as written)"]
    changed = effect.changed_by_rounding
    rounding = f"rounding to the file's element type changes {counted(changed, 'prediction')}"
    return Table(title, columns, rows), rounding
