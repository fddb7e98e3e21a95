"""Options of `alphafix inspect`."""

from __future__ import annotations

from pathlib import Path

from alphafix.commands.options import StageOptions, flag


class InspectOptions(StageOptions):
    """Options of `alphafix inspect`."""

    file: Path = flag(help="Model file, of any format.", argument=True, metavar="FILE")
    head: str | None = flag(
        None, help="Name of the head's layer or weight; the end of it is enough.", metavar="NAME"
    )
    num_classes: int | None = flag(None, help="Number of classes  [of the run directory].", ge=2)
    all: bool = flag(
        False, help="List every layer that could be one, not only those that could be meant."
    )
    width: int | None = flag(None, help="Feature width  [of the run directory].", ge=1)
