"""Options of `alphafix features import` and `alphafix features export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from alphafix.commands.options import Flag, StageOptions

Split = Literal["train", "val", "test", "open"]


class ExportOptions(StageOptions):
    """Options of `alphafix features export`."""

    file: Annotated[
        Path,
        Flag(argument=True, metavar="FILE"),
        Field(description="Where to: .npz, .npy (labels and ids beside it) or .parquet."),
    ]
    split: Annotated[Split, Field(description="Which split to export.")] = "train"


class ImportOptions(StageOptions):
    """Options of `alphafix features import`."""

    file: Annotated[
        Path,
        Flag(argument=True, metavar="FILE"),
        Field(
            description="Where from: .npz or .safetensors with features, labels and, if there "
            "are any, ids; .npy with NAME_labels.npy beside it; or .parquet."
        ),
    ]
    split: Annotated[Split, Field(description="Which split it is.")] = "train"
    store_dtype: Annotated[
        Literal["float32", "float16", "bfloat16"], Field(description="Type of stored features.")
    ] = "float32"
