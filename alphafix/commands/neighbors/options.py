"""Options of `alphafix neighbors`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from alphafix.commands.options import Flag, StageOptions
from alphafix.errors import option

Metric = Literal["euclidean", "cosine", "random"]


class NeighborsOptions(StageOptions):
    """Options of `alphafix neighbors`."""

    k: Annotated[int, Flag(("-k", "--k")), Field(ge=1, description="Neighbours a class.")] = 5
    metric: Annotated[
        Metric,
        Field(
            description="Distance between class means; random neighbours are the control "
            "of the paper's Figure 3 (`alphafix train` draws its own for each trial)."
        ),
    ] = "euclidean"
    seed: Annotated[int, Field(ge=0, description="Seed of --metric random.")] = 0
    few_below: Annotated[
        int | None,
        Field(ge=1, description="Classes with fewer training samples are few-split  [20]."),
    ] = None
    many_above: Annotated[
        int | None,
        Field(ge=0, description="Classes with more training samples are many-split  [100]."),
    ] = None
    features: Annotated[
        tuple[str, ...],
        Flag(metavar="[SPLIT=]FILE"),
        Field(
            description="Start from features of your own: .npz or .safetensors with "
            "`features` (N x D) and `labels` (N), one file a split (repeat the flag), or one "
            "file with `train_features`, `train_labels`, `val_features`, ..."
        ),
    ] = ()
    head: Annotated[
        Path | None,
        Flag(metavar="FILE"),
        Field(
            description="With --features: the head, .npz or .safetensors with `weight` "
            "(C x D) and `bias` (C, if there is one)."
        ),
    ] = None
    class_names: Annotated[
        Path | None,
        Flag(metavar="FILE"),
        Field(description="With --features: class names in the order of the head, one a line."),
    ] = None
    csv: Annotated[
        Path | None, Flag(metavar="FILE"), Field(description="Write the table as CSV too.")
    ] = None

    @model_validator(mode="after")
    def _names_of_arrays(self) -> NeighborsOptions:
        if self.class_names is not None and not self.features:
            raise ValueError(f"{option('class_names')} goes with {option('features')}")
        return self

    def recorded(self) -> dict[str, Any]:
        """The options that decide the result, as JSON data for its provenance."""
        return self.model_dump(mode="json", include={"k", "metric", "seed"})
