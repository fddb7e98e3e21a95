"""Options of `alphafix neighbors`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import model_validator

from alphafix.commands.options import FewBelow, ManyAbove, StageOptions, flag
from alphafix.errors import option

Metric = Literal["euclidean", "cosine", "random"]


class NeighborsOptions(StageOptions):
    """Options of `alphafix neighbors`."""

    k: int = flag(5, help="Neighbours a class.", flags=("-k", "--k"), ge=1)
    metric: Metric = flag(
        "euclidean",
        help="Distance between class means; random neighbours are the control "
        "of the paper's Figure 3 (`alphafix train` draws its own for each trial).",
    )
    seed: int = flag(0, help="Seed of --metric random.", ge=0)
    few_below: FewBelow = None
    many_above: ManyAbove = None
    features: tuple[str, ...] = flag(
        (),
        help="Start from features of your own: .npz or .safetensors with "
        "`features` (N x D) and `labels` (N), one file a split (repeat the flag), or one "
        "file with `train_features`, `train_labels`, `val_features`, ...",
        metavar="[SPLIT=]FILE",
    )
    head: Path | None = flag(
        None,
        help="With --features: the head, .npz or .safetensors with `weight` "
        "(C x D) and `bias` (C, if there is one).",
        metavar="FILE",
    )
    class_names: Path | None = flag(
        None,
        help="With --features: class names in the order of the head, one a line.",
        metavar="FILE",
    )
    csv: Path | None = flag(None, help="Write the table as CSV too.", metavar="FILE", writes=True)

    @model_validator(mode="after")
    def _names_of_arrays(self) -> NeighborsOptions:
        if self.class_names is not None and not self.features:
            raise ValueError(f"{option('class_names')} goes with {option('features')}")
        return self

    def recorded(self) -> dict[str, Any]:
        """The options that decide the result, as JSON data for its provenance."""
        return self.model_dump(mode="json", include={"k", "metric", "seed"})
