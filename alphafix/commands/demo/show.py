"""What a person sees of the demo: both sides of the trade-off."""

from __future__ import annotations

from alphafix.commands.command import Shown
from alphafix.commands.demo.options import DemoOptions
from alphafix.commands.demo.work import DemoResult
from alphafix.metrics.accuracy import COLUMNS
from alphafix.report.cells import change, number, over_seeds
from alphafix.values.display import Table


def show(found: DemoResult, options: DemoOptions) -> Shown:
    """The table before and after, and where the model is."""
    data = found.to_dict()
    base, corrected = data["base"], data["corrected"]
    rows: list[list[object]] = [
        ["classes", *(len(found.classes.tier(name)) for name in COLUMNS)],
        ["base model", *(number(base[name]) for name in COLUMNS)],
        ["AlphaNet, nearest", *map(over_seeds, data["nearest"].values())],
        ["AlphaNet, random", *map(over_seeds, data["random"].values())],
        ["patched model", *(number(corrected[name]) for name in COLUMNS)],
        ["  its gain", *(change(base[name], corrected[name]) for name in COLUMNS)],
    ]
    thresholds = found.classes.thresholds
    lines = [
        f"few: fewer than {thresholds.few} training images; many: more than {thresholds.many}.",
        f"AlphaNet: mean ± sd of {options.seeds} seeds; the patched model has the mean of "
        "their rows. Random neighbours are the control: what they gain too is not owed to "
        "likeness.",
        f"patched model: {found.patched}",
    ]
    return Shown([Table("", ["test accuracy (%)", *COLUMNS], rows), *lines])
