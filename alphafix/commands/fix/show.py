"""What a person sees of a model that was corrected."""

from __future__ import annotations

from alphafix.commands.command import Shown
from alphafix.commands.fix.options import FixOptions
from alphafix.commands.fix.work import FixResult
from alphafix.metrics.gates import class_drops
from alphafix.report.cells import estimate
from alphafix.values.display import Table

# Methods that leave all other rows as they are.
_OF_FEW = ("alphanet", "lda-few", "few-bias")

MUCH = 10.0
"""Points that a single class may lose without being counted."""

NAMES = {"few": "rare classes (few)", "base": "other classes", "overall": "overall"}


def show(found: FixResult, options: FixOptions) -> Shown:
    """Before and after, and where the patched model is."""
    rows: list[list[object]] = []
    for name, words in NAMES.items():
        tier = found.evaluation.tier(name)
        one = tier.figures["top1"]
        if one.base is not None and one.corrected is not None and one.change is not None:
            before, after = f"{one.base.value:.1f}", f"{one.corrected.value:.1f}"
            change = estimate(one.change, sign=True)
            rows.append([words, f"{tier.samples:,}", before, after, change])
    title = f"Top-1 on {found.evaluation.on}, in percent"
    note = "[ ]: 95% bootstrap interval"
    table = Table(title, ["", "samples", "before", "after", "change"], rows, [note])
    classes = f"{class_drops(found.evaluation, MUCH)} (the limit is on all together)"
    return Shown(str(found.patched), [table, classes, _changed(found)], see=found.page)


def _changed(found: FixResult) -> str:
    """What the patched model has that the given one has not."""
    classes = found.evaluation.classes
    which = f"{found.rows} of {len(classes)} rows of the last layer change"
    if found.rows == len(classes.few):
        return f"{found.evaluation.method}: {which}, those of the rare classes"
    return (
        f"{found.evaluation.method}: {which} (only those of the rare classes with "
        f"--set train.methods={','.join(_OF_FEW)})"
    )
