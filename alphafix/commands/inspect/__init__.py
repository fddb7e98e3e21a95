"""`alphafix inspect`."""

from __future__ import annotations

from alphafix.commands.command import Command
from alphafix.commands.inspect.options import InspectOptions

COMMAND = Command(
    name="inspect",
    options=InspectOptions,
    help="Show which layers of a model file could be the head; print its name if one must be it.",
    example="alphafix inspect model.safetensors",
    folder=__name__,
)
