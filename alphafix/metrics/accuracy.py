"""Top-1 accuracy by few, medium, many and overall: the one place where it is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from alphafix.values.arrays import BoolArray, FloatArray64, IntArray
from alphafix.values.classes import TIERS, ClassTable

Accuracy = Mapping[str, "float | None"]
"""Top-1 accuracy in percent of "few", "medium", "many" and "overall"; None without samples."""

COLUMNS = (*TIERS, "overall")
"""The tiers of an `Accuracy`, in its order."""


def members_of(classes: ClassTable, names: Sequence[str] = COLUMNS) -> BoolArray:
    """Which class is in which of the tiers ``names``, bool of shape R x C."""
    members = np.zeros((len(names), len(classes)), dtype=np.bool_)
    for row, name in enumerate(names):
        members[row, classes.tier(name)] = True
    return members


def tier_shares(
    right: FloatArray64, samples: IntArray | FloatArray64, members: BoolArray
) -> FloatArray64:
    """Share of samples that are right in each tier, float64 of shape ... x R; NaN without samples.

    Args:
        right: Samples of each class that are right, float64 of shape ... x C.
        samples: Samples of each class, of shape C.
        members: Which class is in which of R tiers, bool of shape R x C.
    """
    inside = members.T.astype(np.float64)
    with np.errstate(invalid="ignore"):
        shares: FloatArray64 = (right @ inside) / (samples @ inside)
    return shares


def accuracy_of_counts(
    right: IntArray | FloatArray64, samples: IntArray, classes: ClassTable
) -> Accuracy:
    """Accuracy from the counts of each class.

    Args:
        right: Samples of each class that are predicted correctly, of shape C.
        samples: Samples of each class, int64 of shape C.
        classes: Which class is in which tier.
    """
    shares = tier_shares(right.astype(np.float64), samples, members_of(classes))
    return {
        name: None if np.isnan(share) else 100 * share
        for name, share in zip(COLUMNS, shares.tolist(), strict=True)
    }


def tier_accuracy(correct: BoolArray, labels: IntArray, classes: ClassTable) -> Accuracy:
    """Accuracy over N samples.

    Args:
        correct: Whether each sample is predicted correctly, bool of shape N.
        labels: Its class id in 0..C-1, int64 of shape N.
        classes: Which class is in which tier.
    """
    right = np.bincount(labels, weights=correct, minlength=len(classes))
    return accuracy_of_counts(right, np.bincount(labels, minlength=len(classes)), classes)


def class_mean_accuracy(correct: BoolArray, labels: IntArray, classes: ClassTable) -> Accuracy:
    """The mean of the classes' accuracies in each tier: every class counts the same.

    On balanced samples it is `tier_accuracy`, where every sample counts the same.

    Args:
        correct: Whether each sample is predicted correctly, bool of shape N.
        labels: Its class id in 0..C-1, int64 of shape N.
        classes: Which class is in which tier.
    """
    samples = np.bincount(labels, minlength=len(classes))
    right = np.bincount(labels, weights=correct, minlength=len(classes))
    present = (samples > 0).astype(np.float64)
    shares = tier_shares(right / np.maximum(samples, 1), present, members_of(classes))
    return {
        name: None if np.isnan(share) else 100 * share
        for name, share in zip(COLUMNS, shares.tolist(), strict=True)
    }


def harmonic_mean(accuracy: Accuracy) -> float:
    """Harmonic mean of the accuracies of the tiers that have samples."""
    values = [np.nan if (value := accuracy[name]) is None else value for name in TIERS]
    return float(harmonic_means(np.array(values)[:, None])[0])


def harmonic_means(tiers: FloatArray64) -> FloatArray64:
    """The same of n accuracies, float64 of shape n.

    Args:
        tiers: Accuracy of each tier in percent, float64 of shape 3 x n; NaN without samples.
    """
    known = tiers[~np.isnan(tiers).any(axis=1)]
    if not len(known):
        return np.zeros(tiers.shape[1])
    with np.errstate(divide="ignore"):
        # An accuracy of 0 gives 1 / inf, which is the 0 that it should be.
        means: FloatArray64 = len(known) / (1 / known).sum(axis=0)
    return means
