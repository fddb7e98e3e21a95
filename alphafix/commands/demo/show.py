"""What a person sees of the demo: both sides of the trade-off."""

from __future__ import annotations

from alphafix.commands.command import Shown
from alphafix.commands.demo.options import DemoOptions
from alphafix.commands.demo.work import DemoResult
from alphafix.metrics.accuracy import COLUMNS
from alphafix.report.cells import change, number, over_seeds
from alphafix.report.text import table_lines
from alphafix.values.display import Table


def show(found: DemoResult, options: DemoOptions) -> Shown:
    """The table before and after, and where the model is."""
    data = found.to_dict()
    base, corrected = data["base"], data["corrected"]
    over = f"({options.seeds} seeds, mean ± sd)"
    rows: list[list[object]] = [
        ["classes", *(len(found.classes.tier(name)) for name in COLUMNS)],
        ["base model", *(number(base[name]) for name in COLUMNS)],
        [f"AlphaNet, nearest {over}", *map(over_seeds, data["nearest"].values())],
        [f"AlphaNet, random  {over}", *map(over_seeds, data["random"].values())],
        ["patched model (mean of the seeds' rows)", *(number(corrected[name]) for name in COLUMNS)],
        ["  its gain", *(change(base[name], corrected[name]) for name in COLUMNS)],
    ]
    thresholds = found.classes.thresholds
    lines = [
        "",
        *table_lines(Table("the demo", ["test accuracy (%)", *COLUMNS], rows)),
        "",
        "Random neighbours are the control: what they gain too is not owed to likeness.",
        f"few: fewer than {thresholds.few} training images; many: more than {thresholds.many}.",
        f"patched model: {found.patched}",
    ]
    return Shown("\n".join(lines))
