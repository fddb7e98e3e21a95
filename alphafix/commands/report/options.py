"""Options of `alphafix report`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from alphafix.commands.options import FeatureStageOptions, flag


class ReportOptions(FeatureStageOptions):
    """Options of `alphafix report`."""

    on: Literal["test", "val"] = flag("test", help="Which stored features to report on.")
    output: Path | None = flag(
        None,
        help="Folder of the page and its figures  [report in the run directory].",
        metavar="DIR",
        writes=True,
    )
    groups: str | None = flag(
        None, help="Class groups for the paper's Figure 6 (see alphafix evaluate).", metavar="FILE"
    )
    wordnet_edges: int = flag(4, help="Longest WordNet path between classes of one group.", ge=1)
    open: str | None = flag(
        None, help="Stored features of unknown classes (see alphafix evaluate).", metavar="SPLIT"
    )
    open_threshold: float = flag(
        0.1, help="Softmax confidence under which a sample is unknown.", ge=0, le=1
    )
    bootstraps: int = flag(1000, help="Draws behind the 95% intervals (samples, by class).", ge=100)
    seed: int = flag(0, help="Seed of these draws.", ge=0)

    def recorded(self) -> dict[str, Any]:
        """The options that decide the result, as JSON data for its provenance."""
        return self.model_dump(mode="json", exclude={*FeatureStageOptions.model_fields, "output"})
