"""The keyword arguments of the functions, for type checkers and editors.

Made from the options models by `.ci/write_keywords.py`; the models say what each means, what its
default is, and which values it takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypedDict


class StageKeywords(TypedDict, total=False):
    """What every function takes."""

    run: str | Path
    overwrite: bool
    wait: float


class ExtractKeywords(StageKeywords, total=False):
    """Keywords of `alphafix.extract` (see `ExtractOptions`)."""

    weights: str | Path | None
    section: str
    model_arg: Sequence[str]
    check: str | Path | None
    split: str
    split_name: Sequence[str]
    val_fraction: float | None
    val_seed: int
    head: str | None
    few_below: int | None
    many_above: int | None
    class_order: Literal["string", "natural"] | None
    class_map: str | Path | None
    label_kind: Literal["names", "ids"] | None
    endings: str | None
    root: str | Path | None
    prefix_map: Sequence[str]
    image_key: str | None
    label_key: str | None
    on_bad_image: Literal["error", "skip"]
    exif_rotate: bool
    decode: Literal["auto", "pillow", "torch"]
    image_size: int | None
    crop_pct: float | None
    interpolation: Literal["bilinear", "bicubic", "lanczos", "nearest"] | None
    mean: str | None
    std: str | None
    limit: int | None
    batch_size: int
    shard_samples: int | None
    workers: int | None
    device: Literal["auto", "cpu", "cuda", "mps"]
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    compile: bool
    store_dtype: Literal["float32", "float16", "bfloat16"]


class NeighborsKeywords(StageKeywords, total=False):
    """Keywords of `alphafix.find_neighbors` (see `NeighborsOptions`)."""

    k: int
    metric: Literal["euclidean", "cosine", "random"]
    seed: int
    few_below: int | None
    many_above: int | None
    csv: str | Path | None


class TrainKeywords(StageKeywords, total=False):
    """Keywords of `alphafix.train` (see `TrainOptions`)."""

    verify: bool
    method: str
    methods: str | Sequence[str]
    time: float | None
    rho: float | Sequence[float]
    seeds: int
    seed: int
    k: int | Sequence[int]
    metric: Literal["euclidean", "cosine", "random"] | None
    preset: Literal["paper", "official", "released"] | None
    pool: Literal["neighbors", "neighbors+discriminant"]
    include_self: bool | None
    learn_bias: bool | None
    hidden: int | Sequence[int]
    epochs: int
    first_epoch: int
    batch_size: int
    lr: float
    select: Literal["overall", "few", "harmonic", "balanced", "constrained", "none"]
    max_overall_drop: float | None
    max_base_drop: float | None
    max_class_drop: float | None
    confidence: float
    allow_worse: bool
    at: str | None
    ensemble: Literal["mean", "single"]
    calibrate: bool | None
    holdout: float | None
    holdout_head: Literal["ce", "crt", "ridge"] | None
    device: Literal["auto", "cpu", "cuda", "mps"]
    memory: float
    max_steps: int | None
    logger: Literal["tensorboard", "wandb"] | Sequence[Literal["tensorboard", "wandb"]]
    tensorboard: str | Path | None


class PatchKeywords(StageKeywords, total=False):
    """Keywords of `alphafix.patch` (see `PatchOptions`)."""

    output: str | Path | None
    head: str | None
    in_place: bool
    revert: bool
    delta: bool
    apply: str | Path | None
    card: str | Path | None
    base_model: str | None
    dry_run: bool
    direction_only: bool
    verify: Literal["full", "rows"] | None
    measure: bool
    provenance: bool


class EvaluateKeywords(StageKeywords, total=False):
    """Keywords of `alphafix.evaluate` (see `EvaluateOptions`)."""

    verify: bool
    on: Literal["test", "val"]
    bootstraps: int
    seed: int
    model: str | Path | None
    backbone: str | None
    trust_run: bool
    data: str | None
    groups: str | None
    wordnet_edges: int
    open: str | None
    open_threshold: float


class CompareKeywords(StageKeywords, total=False):
    """Keywords of `alphafix.compare` (see `CompareOptions`)."""

    verify: bool
    on: Literal["test", "val"]
    max_overall_drop: float
    confidence: float
    methods: str | Sequence[str]
    rho: float | Sequence[float]
    seeds: int
    k: int | Sequence[int]
    on_top: bool
    on_top_seeds: int
    one_rho: float
    time: float | None
    bootstraps: int
    seed: int


class InspectKeywords(StageKeywords, total=False):
    """Keywords of `alphafix.inspect` (see `InspectOptions`)."""

    head: str | None
    num_classes: int | None
    all: bool
    width: int | None
