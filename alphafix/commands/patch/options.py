"""Options of `alphafix patch`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from alphafix.commands.options import Flag, StageOptions
from alphafix.errors import option


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
        Field(
            description="File to write, or another folder to write into  "
            "[model.alphafix.safetensors beside the original]."
        ),
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
    in_place: Annotated[
        bool,
        Field(
            description="Change FILE itself; a record beside it (FILE.alphafix-undo) restores it."
        ),
    ] = False
    revert: Annotated[
        bool, Field(description="Restore FILE, which was patched --in-place, byte by byte.")
    ] = False
    delta: Annotated[
        bool,
        Field(
            description="Write only the changed rows, to ship instead of a model  "
            "[model.alphafix-delta.safetensors]."
        ),
    ] = False
    apply: Annotated[
        Path | None,
        Flag(metavar="DELTA"),
        Field(description="Apply rows that --delta wrote; needs no run directory."),
    ] = None
    card: Annotated[
        Path | None,
        Flag(metavar="README.md"),
        Field(description="Write a model card: what changed, how, and the accuracy both ways."),
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
            description="After writing, compare every byte with the original, or only the changed "
            "rows  [full; rows with --in-place]."
        ),
    ] = None
    measure: Annotated[
        bool,
        Field(description="Measure accuracy and rounding on the run's validation features."),
    ] = True
    provenance: Annotated[
        bool, Field(description="Record in the file's metadata how it was made.")
    ] = True

    @model_validator(mode="after")
    def _one_action(self) -> PatchOptions:
        given = {
            option("in_place"): self.in_place,
            option("revert"): self.revert,
            option("delta"): self.delta,
            option("apply"): self.apply is not None,
        }
        actions = [name for name, there in given.items() if there]
        if len(actions) > 1 and actions != [option("in_place"), option("apply")]:
            raise ValueError(f"{' and '.join(actions)} do not go together")
        if self.output is not None and (self.in_place or self.revert):
            raise ValueError(f"{option('output')} does not go together with {actions[0]}")
        if self.apply is not None and (self.correction is not None or self.head is not None):
            raise ValueError(
                f"{option('apply')} brings its own rows: leave out {option('correction')} and "
                f"{option('head')}"
            )
        return self

    def recorded(self) -> dict[str, Any]:
        """The options that decide the result, as JSON data for its provenance."""
        return self.model_dump(mode="json", include={"head", "direction_only"})
