"""Options of `alphafix evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from alphafix.commands.options import Flag, StageOptions
from alphafix.errors import option

# Gates and output files say nothing of how the figures were made.
_INCIDENTAL = {
    "run",
    "overwrite",
    "min_few_gain",
    "max_overall_drop",
    "max_base_drop",
    "max_class_drop",
    "confident",
    "junit",
    "markdown",
}


class EvaluateOptions(StageOptions):
    """Options of `alphafix evaluate`."""

    on: Annotated[
        Literal["test", "val"], Field(description="Which stored features to evaluate on.")
    ] = "test"
    bootstraps: Annotated[
        int, Field(ge=100, description="Draws behind the 95% intervals (samples, by class).")
    ] = 1000
    seed: Annotated[int, Field(ge=0, description="Seed of these draws.")] = 0
    min_few_gain: Annotated[
        float | None,
        Field(
            allow_inf_nan=False,
            description="Gate: the few split must gain this many points of top-1 accuracy.",
        ),
    ] = None
    max_overall_drop: Annotated[
        float | None,
        Field(
            allow_inf_nan=False,
            description="Gate: overall top-1 may drop by at most this many points.",
        ),
    ] = None
    max_base_drop: Annotated[
        float | None,
        Field(
            allow_inf_nan=False,
            description="Gate: top-1 of all other classes may drop by at most this many points.",
        ),
    ] = None
    max_class_drop: Annotated[
        float | None,
        Field(
            allow_inf_nan=False,
            description="Gate: no class's accuracy may drop by more than this many points.",
        ),
    ] = None
    confident: Annotated[
        bool,
        Field(description="Hold the worse end of the 95% interval to each gate, not the figure."),
    ] = False

    model: Annotated[
        Path | None,
        Flag(metavar="FILE"),
        Field(
            description="Evaluate this checkpoint itself, end to end on the images that the "
            "stored features were made from: the number of what ships."
        ),
    ] = None
    backbone: Annotated[
        str | None,
        Flag(metavar="SPEC"),
        Field(description="With --model: its backbone  [as in alphafix extract]."),
    ] = None
    data: Annotated[
        str | None,
        Flag(metavar="SPEC"),
        Field(description="With --model: where the images are  [as in alphafix extract]."),
    ] = None
    groups: Annotated[
        str | None,
        Flag(metavar="FILE"),
        Field(
            description="Count confusions within a group as right in one more figure: JSON "
            "{group: [class, ...]}, or lines of class, tab, group (or WordNet id); "
            '"wordnet" where class names are WordNet ids.'
        ),
    ] = None
    wordnet_edges: Annotated[
        int, Field(ge=1, description="Longest WordNet path between classes of one group.")
    ] = 4
    open: Annotated[
        str | None,
        Flag(metavar="SPLIT"),
        Field(
            description="Stored features of unknown classes: the name of a split, or the folder "
            "of a feature store."
        ),
    ] = None
    open_threshold: Annotated[
        float,
        Field(ge=0, le=1, description="Softmax confidence under which a sample is unknown."),
    ] = 0.1
    junit: Annotated[
        Path | None, Flag(metavar="FILE"), Field(description="Write the gates as JUnit XML.")
    ] = None
    markdown: Annotated[
        Path | None,
        Flag(metavar="FILE"),
        Field(description="Write a summary as Markdown, for a CI step."),
    ] = None

    @model_validator(mode="after")
    def _model_and_images(self) -> EvaluateOptions:
        if self.model is None and (self.backbone or self.data):
            raise ValueError(f"{option('backbone')} and {option('data')} go with {option('model')}")
        if self.model is not None and self.open is not None:
            raise ValueError(
                f"{option('open')} is for stored features, so it does not go with {option('model')}"
            )
        return self

    def recorded(self) -> dict[str, Any]:
        """The options that decide the result, as JSON data for its provenance."""
        recorded = self.model_dump(mode="json", exclude=_INCIDENTAL)
        # Where the file lies does not matter; the stage adds the hash of what is in it.
        return recorded | {"model": None if self.model is None else self.model.name}
