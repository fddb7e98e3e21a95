"""Options of `alphafix import`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import model_validator

from alphafix.commands.options import FewBelow, ManyAbove, StageOptions, flag
from alphafix.errors import option

Kind = Literal[
    "alphanet-official", "classifier-balancing", "ride", "oltr", "huggingface", "features"
]


class ForeignOptions(StageOptions):
    """Options of `alphafix import`."""

    kind: Kind = flag(
        help="Where it is from: alphanet-official (a dataset folder), "
        "classifier-balancing, ride or oltr (a checkpoint), huggingface (a model's folder), "
        "features (.npz or Parquet, with --head).",
        argument=True,
    )
    source: Path = flag(help="The folder or file.", argument=True, metavar="SOURCE")
    output: Path | None = flag(
        None,
        help="Checkpoints: the converted model, for alphafix extract and patch  "
        "[SOURCE with the suffix .safetensors; a folder for oltr].",
        flags=("-o", "--output"),
        metavar="FILE",
        writes=True,
    )
    features: tuple[str, ...] = flag(
        (),
        help="Features that the model gives, for a run directory: as for alphafix "
        "neighbors, or the project's own .pkl with --allow-pickle (repeat the flag).",
        metavar="[SPLIT=]FILE",
    )
    allow_pickle: bool = flag(
        False,
        help="Read pickles. Arrays and plain data alone are made of them; a pickle "
        "that names anything else is refused.",
    )
    name: str | None = flag(
        None, help="alphanet-official: which of several models of the folder.", metavar="NAME"
    )
    head: Path | None = flag(
        None, help="features: the head, as for alphafix neighbors.", metavar="FILE"
    )
    scale: float = flag(1.0, help="What the model multiplies its logits by (LTR: 100).", gt=0)
    class_names: Path | None = flag(
        None, help="Class names in the order of the head, one a line.", metavar="FILE"
    )
    few_below: FewBelow = None
    many_above: ManyAbove = None

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
