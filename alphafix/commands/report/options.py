"""Options of `alphafix report`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from alphafix.commands.options import (
    Bootstraps,
    FeatureStageOptions,
    OpenThreshold,
    WordnetEdges,
    flag,
)


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
    wordnet_edges: WordnetEdges = 4
    open: str | None = flag(
        None, help="Stored features of unknown classes (see alphafix evaluate).", metavar="SPLIT"
    )
    open_threshold: OpenThreshold = 0.1
    bootstraps: Bootstraps = 1000
    seed: int = flag(0, help="Seed of these draws.", ge=0)
