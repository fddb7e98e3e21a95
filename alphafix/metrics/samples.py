"""Whether figures on stored samples can be trusted: what their manifests say of the samples."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from math import sqrt
from typing import Any

from alphafix.errors import call, option
from alphafix.features.store import FeatureStore, made_with
from alphafix.metrics.doubts import Hits, chance_doubts
from alphafix.run.directory import Run

# One-sided 95%: how much less right a head must be on samples that it was not trained on, in
# standard errors, to be believed that it was not.
_LOWER = 1.645

Made = Mapping[str, Any]
"""How the features of a split were made, as `made_with` gives it."""


def stored_doubts(run: Run, splits: Iterable[str]) -> list[str]:
    """What speaks against the base head, and against figures on what a run holds.

    Args:
        run: The run directory.
        splits: Names of splits, those of which are looked at whose features are there.
    """
    there = [split for split in splits if run.has(run.manifest(split))]
    stores = {split: FeatureStore.open(run.features(split)) for split in there}
    base = hits_of(stores)
    made = {split: made_with(store) for split, store in stores.items()}
    return [*chance_doubts(base), *sample_doubts(made, base)]


def hits_of(stores: Mapping[str, FeatureStore]) -> dict[str, Hits]:
    """What the base head predicts rightly of stored features of known classes, by split."""
    return {
        split: Hits(hits, store.class_counts())
        for split, store in stores.items()
        if split != "open" and (hits := store.class_hits()) is not None
    }


def sample_doubts(made: Mapping[str, Made], base: Mapping[str, Hits]) -> list[str]:
    """What speaks against figures on some splits, in sentences; none if nothing does.

    Args:
        made: How each split was extracted.
        base: What the base head predicts rightly, of each split of known classes.
    """
    found = []
    train, val = base.get("train"), base.get("val")
    if train and val and made["val"].get("val_fraction") is not None and as_good(val, train):
        found.append(
            f"val is made of training images, and the base head is right on "
            f"{100 * val.accuracy:.1f}% of it ({100 * train.accuracy:.1f}% of train): the model "
            "was probably trained on them, so that what a correction costs cannot be seen there; "
            f"choose on images that it has not seen, or with {option('holdout', 0.2)} and "
            f"{option('holdout_head', 'crt')} of {call('train')}"
        )
    for one, other in itertools.combinations(made, 2):
        sums = made[one].get("statistics_sha256")
        if sums is not None and sums == made[other].get("statistics_sha256"):
            found.append(
                f"{one} and {other} hold the same samples: what is chosen on one of them looks "
                "better on the other than it is"
            )
    limit = made.get("train", {}).get("limit")
    if train and limit is not None and int(train.samples.sum()) >= limit:
        found.append(
            f"few, medium and many are counted of {limit:,} training images alone "
            f"({option('limit')}): they are not those of the data"
        )
    return found


def as_good(other: Hits, train: Hits) -> bool:
    """Whether a head is not clearly less right on some samples than on those of training."""
    n, m = int(other.samples.sum()), int(train.samples.sum())
    if not n or not m:
        return False
    both = (int(other.right.sum()) + int(train.right.sum())) / (n + m)
    error = sqrt(both * (1 - both) * (1 / n + 1 / m))
    return train.accuracy - other.accuracy <= _LOWER * error
