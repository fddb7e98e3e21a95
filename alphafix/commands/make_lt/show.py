"""What a person sees of long-tailed lists."""

from __future__ import annotations

from alphafix.commands.command import Shown
from alphafix.commands.make_lt.options import MakeLtOptions
from alphafix.commands.make_lt.work import MadeLists, VerifiedLists
from alphafix.values.display import Table


def show(found: MadeLists | VerifiedLists, options: MakeLtOptions) -> Shown:
    """The lists and how they are read, or those that are as recorded."""
    if isinstance(found, VerifiedLists):
        return Shown("\n".join(f"{name}: OK" for name in found.names))
    listed = found.folder / "classes.txt"
    reading = f"read with: --data {found.folder} --root {found.root} --class-map {listed}"
    return Shown(str(found.folder), [found.classes.describe(), _table(found), reading])


def _table(made: MadeLists) -> Table:
    rows = []
    for split, listed in made.lists.lists.items():
        if split == "open":
            classes, span = len(made.lists.open_names), ""
        else:
            counts = made.lists.counts(split)
            classes, span = len(counts), f"{counts.max()} to {counts.min()}"
        rows.append([split, classes, f"{len(listed):,}", span])
    return Table("lists", ["split", "classes", "images", "a class"], rows)
