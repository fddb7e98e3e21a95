"""Options of `alphafix patch`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from alphafix.options.base import Flag, StageOptions


class PatchOptions(StageOptions):
    """Options of `alphafix patch`."""

    file: Annotated[
        Path,
        Flag(argument=True, metavar="FILE"),
        Field(description="Model file, index of a sharded model, or folder that holds one."),
    ]
    output: Annotated[
        Path | None,
        Flag(("-o", "--output"), metavar="FILE"),
        Field(description="Where to write  [model.alphafix.safetensors beside the original]."),
    ] = None
    correction: Annotated[
        Path | None,
        Flag(metavar="FILE"),
        Field(description="Correction to apply  [the run's alphanet.safetensors]."),
    ] = None
    head: Annotated[
        str | None,
        Flag(metavar="NAME"),
        Field(description="Name of the head's layer, if it is not found (see alphafix inspect)."),
    ] = None
    dry_run: Annotated[bool, Field(description="Show what would change; write nothing.")] = False
    direction_only: Annotated[
        bool,
        Field(
            description="For heads whose rows the model normalises: write the directions of the "
            "corrected rows, although their lengths are lost."
        ),
    ] = False
    verify: Annotated[
        Literal["full", "rows"] | None,
        Field(
            description="Compare every byte with the original after writing, or the changed rows "
            "alone  [full; rows with --in-place]."
        ),
    ] = None

    def recorded(self) -> dict[str, Any]:
        """The options that decide the result, as JSON data for its provenance."""
        return self.model_dump(mode="json", include={"head", "direction_only"})
