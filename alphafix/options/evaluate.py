"""Options of `alphafix evaluate`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from alphafix.options.base import StageOptions


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
        Field(description="Gate: the few split must gain this many points of top-1 accuracy."),
    ] = None
    max_overall_drop: Annotated[
        float | None, Field(description="Gate: overall top-1 may drop by at most this many points.")
    ] = None
    max_base_drop: Annotated[
        float | None,
        Field(description="Gate: top-1 of all other classes may drop by at most this many points."),
    ] = None
    max_class_drop: Annotated[
        float | None,
        Field(description="Gate: no class's accuracy may drop by more than this many points."),
    ] = None
    confident: Annotated[
        bool,
        Field(description="Hold the worse end of the 95% interval to each gate, not the figure."),
    ] = False

    def recorded(self) -> dict[str, Any]:
        """The options that decide the result, as JSON data for its provenance."""
        return self.model_dump(mode="json", include={"on", "bootstraps", "seed"})
