"""`alphafix inspect`: which layers of a file could be the head."""

from __future__ import annotations

from alphafix.checkpoints import open_checkpoint
from alphafix.checkpoints.head.inspection import Inspection, inspect_head
from alphafix.commands.command import Watch
from alphafix.commands.inspect.options import InspectOptions
from alphafix.run.directory import CLASSES, HEAD, Run
from alphafix.values.classes import ClassTable
from alphafix.values.head import Head


def work(options: InspectOptions, watch: Watch) -> Inspection:
    """List the layers of a file that could be its head, and take one if there is no doubt.

    Raises:
        InputError: If the file is not there.
        FileFormatError: If it is damaged or of no known format.
    """
    run = Run(options.run)
    return inspect_head(
        open_checkpoint(options.file),
        num_classes=options.num_classes,
        width=options.width,
        everything=options.all,
        name=options.head,
        # A run directory may lie here that has nothing to do with this file.
        known=Head.load(run.path(HEAD)) if run.has(HEAD) else None,
        classes=ClassTable.load(run.path(CLASSES)) if run.has(CLASSES) else None,
    )
