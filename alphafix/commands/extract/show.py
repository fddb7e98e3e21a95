"""What a person sees of an extraction."""

from __future__ import annotations

from alphafix.commands.command import Shown
from alphafix.commands.extract.options import ExtractOptions
from alphafix.commands.extract.work import ExtractResult
from alphafix.values.display import Table


def show(found: ExtractResult, options: ExtractOptions) -> Shown:
    """Classes and images of each split, and what was left out."""
    rows = [
        [name, *(f"{n:,}" for n in sizes.values())] for name, sizes in found.class_sizes().items()
    ]
    left_out = [
        f"{count} images of {split} left out: see features/{split}/skipped.txt"
        for split, count in found.skipped.items()
        if count
    ]
    table = Table("Classes and images", ["", "classes", *found.samples], rows)
    return Shown(str(options.run), [table, found.classes.describe(), *left_out])
