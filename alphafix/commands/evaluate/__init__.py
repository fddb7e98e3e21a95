"""`alphafix evaluate`."""

from __future__ import annotations

from alphafix.commands.command import Command
from alphafix.commands.evaluate.options import EvaluateOptions

COMMAND = Command(
    name="evaluate",
    options=EvaluateOptions,
    help="Compare base and corrected accuracy; exit with code 3 if a gate is not met.",
    example="alphafix evaluate --max-overall-drop 2 --min-few-gain 5",
    folder=__name__,
    feeds=False,
    judged=True,
)
