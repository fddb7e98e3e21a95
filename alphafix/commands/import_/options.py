"""Options of `alphafix import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from alphafix.commands.options import Flag, StageOptions
from alphafix.errors import option

Kind = Literal[
    "alphanet-official", "classifier-balancing", "ride", "oltr", "huggingface", "features"
]


class ForeignOptions(StageOptions):
    """Options of `alphafix import`."""

    kind: Annotated[
        Kind,
        Flag(argument=True),
        Field(
            description="Where it is from: alphanet-official (a dataset folder), "
            "classifier-balancing, ride or oltr (a checkpoint), huggingface (a model's folder), "
            "features (.npz or Parquet, with --head)."
        ),
    ]
    source: Annotated[
        Path, Flag(argument=True, metavar="SOURCE"), Field(description="The folder or file.")
    ]
    output: Annotated[
        Path | None,
        Flag(("-o", "--output"), metavar="FILE"),
        Field(
            description="Checkpoints: the converted model, for alphafix extract and patch  "
            "[SOURCE with the suffix .safetensors; a folder for oltr]."
        ),
    ] = None
    features: Annotated[
        tuple[str, ...],
        Flag(metavar="[SPLIT=]FILE"),
        Field(
            description="Features that the model gives, for a run directory: as for alphafix "
            "neighbors, or the project's own .pkl with --allow-pickle (repeat the flag)."
        ),
    ] = ()
    allow_pickle: Annotated[
        bool,
        Field(
            description="Read pickles. Arrays and plain data alone are made of them; a pickle "
            "that names anything else is refused."
        ),
    ] = False
    name: Annotated[
        str | None,
        Flag(metavar="NAME"),
        Field(description="alphanet-official: which of several models of the folder."),
    ] = None
    head: Annotated[
        Path | None,
        Flag(metavar="FILE"),
        Field(description="features: the head, as for alphafix neighbors."),
    ] = None
    scale: Annotated[
        float,
        Field(gt=0, description="What the model multiplies its logits by (LTR: 100)."),
    ] = 1.0
    class_names: Annotated[
        Path | None,
        Flag(metavar="FILE"),
        Field(description="Class names in the order of the head, one a line."),
    ] = None
    few_below: Annotated[
        int | None,
        Field(ge=1, description="Classes with fewer training samples are few-split  [20]."),
    ] = None
    many_above: Annotated[
        int | None,
        Field(ge=0, description="Classes with more training samples are many-split  [100]."),
    ] = None

    @model_validator(mode="after")
    def _fitting(self) -> ForeignOptions:
        if (self.kind == "features") != (self.head is not None):
            raise ValueError(f"the kind features and {option('head')} go together")
        if self.name is not None and self.kind != "alphanet-official":
            raise ValueError(f"{option('name')} goes with the kind alphanet-official")
        if self.kind == "huggingface" and not self.features:
            raise ValueError(
                f"the kind huggingface needs {option('features')}; from images, "
                "`alphafix extract --backbone hf:DIR` reads the model itself"
            )
        if self.kind in ("alphanet-official", "features") and self.features:
            raise ValueError(
                f"the kind {self.kind} has its features in SOURCE: no {option('features')}"
            )
        return self

    def recorded(self) -> dict[str, Any]:
        """The options that decide the result, as JSON data for its provenance."""
        return self.model_dump(mode="json", include={"kind", "name", "scale"})
