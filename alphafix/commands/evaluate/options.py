"""Options of `alphafix evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import model_validator

from alphafix.commands.options import (
    Bootstraps,
    FeatureStageOptions,
    OpenThreshold,
    WordnetEdges,
    flag,
)
from alphafix.errors import option


class EvaluateOptions(FeatureStageOptions):
    """Options of `alphafix evaluate`."""

    # Gates and output files say nothing of how the figures were made.
    INCIDENTAL = FeatureStageOptions.INCIDENTAL | {
        "trust_run",
        "min_few_gain",
        "max_overall_drop",
        "max_base_drop",
        "max_class_drop",
        "confident",
        "junit",
        "markdown",
        "all",
    }

    on: Literal["test", "val"] = flag("test", help="Which stored features to evaluate on.")
    bootstraps: Bootstraps = 1000
    seed: int = flag(0, help="Seed of these draws.", ge=0)
    min_few_gain: float | None = flag(
        None,
        help="Gate: the few split must gain this many points of top-1 accuracy.",
        allow_inf_nan=False,
    )
    max_overall_drop: float | None = flag(
        None, help="Gate: overall top-1 may drop by at most this many points.", allow_inf_nan=False
    )
    max_base_drop: float | None = flag(
        None,
        help="Gate: top-1 of all other classes may drop by at most this many points.",
        allow_inf_nan=False,
    )
    max_class_drop: float | None = flag(
        None,
        help="Gate: no class's accuracy may drop by more than this many points.",
        allow_inf_nan=False,
    )
    confident: bool = flag(
        False, help="Hold the worse end of the 95% interval to each gate, not the figure."
    )

    model: Path | None = flag(
        None,
        help="Evaluate this checkpoint itself, end to end on the images that the "
        "stored features were made from: the number of what ships.",
        metavar="FILE",
    )
    backbone: str | None = flag(
        None,
        help="With --model: its backbone  [as in alphafix extract].",
        metavar="SPEC",
        complete="backbones",
    )
    trust_run: bool = flag(
        False,
        help="With --model: run the code that the run directory names as its backbone (python: "
        "models). Without it, such a backbone is taken from --backbone alone.",
    )
    data: str | None = flag(
        None, help="With --model: where the images are  [as in alphafix extract].", metavar="SPEC"
    )
    groups: str | None = flag(
        None,
        help="Count confusions within a group as right in one more figure: JSON "
        "{group: [class, ...]}, or lines of class, tab, group (or WordNet id); "
        '"wordnet" where class names are WordNet ids.',
        metavar="FILE",
    )
    wordnet_edges: WordnetEdges = 4
    open: str | None = flag(
        None,
        help="Stored features of unknown classes: the name of a split, or the folder "
        "of a feature store.",
        metavar="SPLIT",
    )
    open_threshold: OpenThreshold = 0.1
    junit: Path | None = flag(
        None, help="Write the gates as JUnit XML.", metavar="FILE", writes=True
    )
    markdown: Path | None = flag(
        None, help="Write a summary as Markdown, for a CI step.", metavar="FILE", writes=True
    )

    all: bool = flag(False, help="Show every figure, not top-1 accuracy alone.")

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
        # Where the file lies does not matter; the stage adds the hash of what is in it.
        return super().recorded() | {"model": None if self.model is None else self.model.name}
