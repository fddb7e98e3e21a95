"""Features that stay though their model has another head: they depend on its backbone alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from alphafix.errors import option
from alphafix.features.features import FeatureArrays
from alphafix.features.shards import read_shard
from alphafix.features.store import FeatureStore
from alphafix.features.sums import ClassSums
from alphafix.features.writer import write_manifest
from alphafix.files import digest
from alphafix.run.artifact import Artifact, Plan
from alphafix.values.head import Head

# What of a plan says which weights a model has: all that may differ with another head.
_OF_THE_WEIGHTS = (
    "backbone",
    "model_sha256",
    "weights",
    "weights_sha256",
    "section",
    "config_sha256",
    "head",
)

# Images of each split on which stored features are held against the model with the other head.
PROVEN_ON = 32


def only_weights_differ(artifact: Artifact) -> bool:
    """Whether a finished store was made as planned, but for the weights of the model.

    Raises:
        FileFormatError: If its manifest is damaged.
    """
    earlier = artifact.recorded()
    return bool(earlier) and _without_weights(earlier or {}) == _without_weights(artifact.plan)


def _without_weights(plan: Plan) -> dict[str, Any]:
    options = dict(plan.get("options") or {})
    return {**plan, "options": {k: v for k, v in options.items() if k not in _OF_THE_WEIGHTS}}


def why_not(store: FeatureStore, now: Mapping[str, Any], head: Head) -> str | None:
    """What besides the head differs between the model of stored features and the one of now.

    Args:
        store: The stored features.
        now: What the manifest of features of the model of now says of it.
        head: Its head.

    Returns:
        It in words, or None if there is nothing.
    """
    if store.info.get("backbone_sha256") is None or now["backbone_sha256"] is None:
        return "its head cannot be told from the rest of it"
    for name, words in (
        ("backbone_sha256", "its backbone has other weights"),
        ("transform", "it takes images prepared otherwise"),
        ("model_args", "it was made with other arguments"),
        ("decoder", "images are decoded otherwise"),
    ):
        if digest(store.info.get(name)) != digest(now[name]):
            return words
    before = store.info.get("head_of") or {}
    if before.get("normalised") != now["head_of"]["normalised"]:
        return "its head takes features of another length"
    if (store.num_classes, store.width) != head.weight.shape:
        return f"its head is {head.num_classes} x {head.width}"
    return None


def largest_error(store: FeatureStore, head: Head, parts: Iterable[FeatureArrays]) -> float | None:
    """How far the logits that a head makes of stored features are from a model's own.

    Args:
        store: The stored features.
        head: The model's head.
        parts: The model's logits (n x C, as features) of some images of the store, with their ids.

    Returns:
        The largest difference relative to the largest logit; None if no image is in the store.
    """
    row_of = {name: row for row, name in enumerate(store.ids)}
    pairs = [
        (row_of[name], logits)
        for part in parts
        for name, logits in zip(part.ids, part.array(), strict=True)
        if name in row_of
    ]
    if not pairs:
        return None
    pairs.sort(key=lambda pair: pair[0])
    expected = np.stack([logits for _, logits in pairs])
    found = head.logits(store.gather(np.array([row for row, _ in pairs], dtype=np.int64)))
    return float(np.abs(found - expected).max() / max(float(np.abs(expected).max()), 1e-12))


def take_over(
    store: FeatureStore, artifact: Artifact, head: Head, info: Mapping[str, Any]
) -> FeatureStore:
    """Make stored features those of a model with another head: its hits are counted anew.

    Args:
        store: The stored features.
        artifact: The store as it is planned now.
        head: The head.
        info: What the manifest says besides shards, images left out and plan.
    """
    sums = ClassSums(store.num_classes, store.width, head)
    for shard in store.shards:
        sums.add(*read_shard(store.folder / shard.file))
    images = {"skipped": store.info["skipped"], "cut": store.info.get("cut", 0)}
    found = write_manifest(
        store.folder,
        store.shards,
        sums,
        dtype=store.dtype,
        info={**info, **images, "provenance": dict(artifact.plan)},
    )
    artifact.finish()
    return found


def advice() -> str:
    """What to do where features are there, of a model with other weights."""
    return (
        f"give {option('overwrite', True)}: features stay if only the head is another, and are "
        f"made anew otherwise; or {option('run')} for another place"
    )
