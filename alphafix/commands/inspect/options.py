"""Options of `alphafix inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from alphafix.commands.options import Flag, StageOptions


class InspectOptions(StageOptions):
    """Options of `alphafix inspect`."""

    file: Annotated[
        Path, Flag(argument=True, metavar="FILE"), Field(description="Model file, of any format.")
    ]
    head: Annotated[
        str | None,
        Flag(metavar="NAME"),
        Field(description="Name of the head's layer or weight; the end of it is enough."),
    ] = None
    num_classes: Annotated[
        int | None, Field(ge=2, description="Number of classes  [of the run directory].")
    ] = None
    width: Annotated[
        int | None, Field(ge=1, description="Feature width  [of the run directory].")
    ] = None
