"""`alphafix features import` and `alphafix features export`."""

from __future__ import annotations

from alphafix.commands.command import Command
from alphafix.commands.features.options import ExportOptions, ImportOptions

COMMANDS = (
    Command(
        name="features import",
        options=ImportOptions,
        help="Make the features of a split from a file; the run has a head already.",
        example="alphafix features import --split val val.npz",
        folder=__name__,
        prefix="import_",
    ),
    Command(
        name="features export",
        options=ExportOptions,
        help="Write the features of a split to a file.",
        example="alphafix features export train.npz",
        folder=__name__,
        prefix="export_",
        feeds=False,
    ),
)
