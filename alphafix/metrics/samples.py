"""Whether figures on stored samples can be trusted: what their manifests say of the samples."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from math import sqrt
from typing import Any

from alphafix.errors import call, option
from alphafix.metrics.doubts import Hits

# One-sided 95%: how much less right a head must be on samples that it was not trained on, in
# standard errors, to be believed that it was not.
_LOWER = 1.645

Made = Mapping[str, Any]
"""The options that the features of a split were extracted with, as their manifest has them."""


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
        data = made[one].get("data_sha256")
        if data is not None and data == made[other].get("data_sha256"):
            found.append(
                f"{one} and {other} hold the same images: what is chosen on one of them looks "
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
