"""Options of `alphafix report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from alphafix.commands.options import Flag, StageOptions


class ReportOptions(StageOptions):
    """Options of `alphafix report`."""

    on: Annotated[
        Literal["test", "val"], Field(description="Which stored features to report on.")
    ] = "test"
    output: Annotated[
        Path | None,
        Flag(metavar="DIR"),
        Field(description="Folder of the page and its figures  [report in the run directory]."),
    ] = None
    groups: Annotated[
        str | None,
        Flag(metavar="FILE"),
        Field(description="Class groups for the paper's Figure 6 (see alphafix evaluate)."),
    ] = None
    wordnet_edges: Annotated[
        int, Field(ge=1, description="Longest WordNet path between classes of one group.")
    ] = 4
    open: Annotated[
        str | None,
        Flag(metavar="SPLIT"),
        Field(description="Stored features of unknown classes (see alphafix evaluate)."),
    ] = None
    open_threshold: Annotated[
        float,
        Field(ge=0, le=1, description="Softmax confidence under which a sample is unknown."),
    ] = 0.1
    bootstraps: Annotated[
        int, Field(ge=100, description="Draws behind the 95% intervals (samples, by class).")
    ] = 1000
    seed: Annotated[int, Field(ge=0, description="Seed of these draws.")] = 0

    def recorded(self) -> dict[str, Any]:
        """The options that decide the result, as JSON data for its provenance."""
        return self.model_dump(mode="json", exclude={"run", "overwrite", "output"})
