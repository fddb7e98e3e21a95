"""`alphafix patch`."""

from __future__ import annotations

from alphafix.commands.command import Command
from alphafix.commands.patch.options import PatchOptions

COMMAND = Command(
    name="patch",
    options=PatchOptions,
    help="Write the corrected rows into a copy of the model file, and nothing else.",
    example="alphafix patch model.safetensors",
    folder=__name__,
    feeds=False,
)
