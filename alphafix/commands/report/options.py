"""Options of `alphafix report`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import model_validator

from alphafix.commands.options import (
    Bootstraps,
    FeatureStageOptions,
    OpenThreshold,
    WordnetEdges,
    flag,
)
from alphafix.errors import option

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(|b|kb|mb|gb)", re.IGNORECASE)


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
    images: int = flag(
        2000,
        help="Test images on the page, at most: those first that change or are wrong.",
        ge=0,
    )
    max_size: str = flag(
        "20MB",
        help="Size of the page, at most; images are left out until it fits.",
        metavar="SIZE",
    )
    bootstraps: Bootstraps = 1000
    seed: int = flag(0, help="Seed of these draws.", ge=0)

    @model_validator(mode="after")
    def _size(self) -> ReportOptions:
        if _SIZE.fullmatch(self.max_size) is None:
            raise ValueError(
                f"{option('max_size')} is a number of bytes, kB, MB or GB such as 20MB, not "
                f"{self.max_size!r}"
            )
        return self

    @property
    def room(self) -> int:
        """Bytes of the page, at most."""
        found = _SIZE.fullmatch(self.max_size)
        return int(float(found[1]) * _UNITS[found[2].lower()]) if found else 0
