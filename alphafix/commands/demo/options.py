"""Options of `alphafix demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from alphafix.commands.options import Flag, StageOptions


class DemoOptions(StageOptions):
    """Options of `alphafix demo`."""

    run: Annotated[
        Path,
        Flag(metavar="DIR"),
        Field(description="Where the images, the model and the results go."),
    ] = Path("alphafix-demo")
    base: Annotated[
        Literal["crt", "ce"],
        Field(
            description="The base model's head: retrained with class-balanced samples (cRT, "
            "as in the paper), or plain cross-entropy."
        ),
    ] = "crt"
    rho: Annotated[float, Field(ge=0, description="As in `alphafix train`.")] = 0.5
    seeds: Annotated[int, Field(ge=1, description="As in `alphafix train`.")] = 10
