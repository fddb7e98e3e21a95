"""Options of `alphafix features import`, `export` and `merge`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from alphafix.commands.options import FeatureStageOptions, StageOptions, StoreDtype, flag

Split = Literal["train", "val", "test", "open"]


class ExportOptions(FeatureStageOptions):
    """Options of `alphafix features export`."""

    file: Path = flag(
        help="Where to: .npz, .npy (labels, ids and class names beside it) or .parquet.",
        argument=True,
        metavar="FILE",
        writes=True,
    )
    split: Split = flag("train", help="Which split to export.")


class ImportOptions(StageOptions):
    """Options of `alphafix features import`."""

    file: Path = flag(
        help="Where from: .npz or .safetensors with features, labels and, if there "
        "are any, ids; .npy with NAME_labels.npy beside it; or .parquet.",
        argument=True,
        metavar="FILE",
    )
    split: Split = flag("train", help="Which split it is.")
    store_dtype: StoreDtype = "float32"


class MergeOptions(StageOptions):
    """Options of `alphafix features merge`."""

    ELSEWHERE = frozenset({"parts"})

    parts: tuple[Path, ...] = flag(
        (),
        help="Folders of the parts, where they lie elsewhere; or the folder or address (s3://...) "
        "that the jobs had as their run directory  [all in the run directory's parts/].",
        argument=True,
        metavar="DIR",
    )
