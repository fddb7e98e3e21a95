"""Whether classes that are predicted as each other can have come to that by chance."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from alphafix.features.features import Features
from alphafix.values.arrays import FloatArray64, IntArray
from alphafix.values.head import Head

# Samples of a class that are looked at.
_MOST = 50

# What Chernoff's bound is looked for among.
_TILTS = np.concatenate([np.linspace(0, 8, 33), [12.0, 20.0, 50.0, 700.0]])


def circles_of(predicted: IntArray, classes: IntArray) -> list[IntArray]:
    """The circles of a permutation, without those of one class.

    Args:
        predicted: The class that each class leads to, int64 of shape C.
        classes: The ids of the classes that it permutes, int64.
    """
    left, found = set(classes.tolist()), []
    for first in classes.tolist():
        circle = []
        while first in left:
            left.remove(first)
            circle.append(first)
            first = int(predicted[first])
        if len(circle) > 1:
            found.append(np.array(circle, dtype=np.int64))
    return found


def own_wins(
    head: Head, samples: Features, places: IntArray, classes: IntArray
) -> tuple[IntArray, IntArray]:
    """How many samples are rather predicted as their own class than as another one.

    Args:
        head: The head.
        samples: N samples; of each class the first ones count, which are enough.
        places: The other class of each, int64 of shape C.
        classes: The ids of the classes that are looked at, int64.

    Returns:
        Of each class how many are, and of how many: int64 of shape C each, 0 for other classes.
    """
    of_class = np.isin(samples.labels, classes)
    rows = np.flatnonzero(of_class)
    rows = rows[np.argsort(samples.labels[rows], kind="stable")]
    starts = np.searchsorted(samples.labels[rows], samples.labels[rows])
    index = np.sort(rows[np.arange(len(rows)) - starts < _MOST])
    wins, of = (np.zeros(len(places), dtype=np.int64) for _ in range(2))
    for part, x in samples.selected(index):
        labels = samples.labels[index[part]]
        others = places[labels]
        gap = np.einsum("nd,nd->n", x, head.weight[labels] - head.weight[others])
        if head.bias is not None:
            gap += head.bias[labels] - head.bias[others]
        np.add.at(wins, labels, gap > 0)
        np.add.at(of, labels, 1)
    return wins, of


def log_chance(circles: Sequence[IntArray], wins: IntArray, samples: IntArray, known: int) -> float:
    """A bound of how likely such circles are if their classes only look alike.

    Which of two such classes a sample is rather predicted as, a coin decides. That the mean of each
    is predicted as another is given: it is why one looks at them. So of a class with n samples at
    most n / 2 are won by its own (and of those with just n / 2, half), of few samples often none,
    and only fewer than that are evidence: the sum over all classes, by Chernoff's bound. Of the L^L
    maps of L classes to themselves (L - 1)! are one circle, and there may be C / L groups of so
    many.

    Args:
        circles: The circles, ids of their classes in each.
        wins: Samples of each class that are rather predicted as it than as the next on its circle,
            int64 of shape C.
        samples: Samples of each class, int64 of shape C.
        known: Number of classes that have samples.

    Returns:
        The natural logarithm of the bound, at most 0.
    """
    moved = np.concatenate(circles)
    sizes, counts = np.unique(samples[moved], return_counts=True)
    log_moments = sum(
        count * _log_moments(int(size)) for size, count in zip(sizes, counts, strict=True)
    )
    bound = min(0.0, float((log_moments + _TILTS * wins[moved].sum()).min()))
    for length in {len(circle) for circle in circles}:
        one_circle = math.lgamma(length) - length * math.log(length)
        bound += min(0.0, math.log(known / length) + one_circle)
    return bound


def log_chance_of_circles(on_circles: int, known: int, classes: int) -> float:
    """How likely so many classes lead back to themselves, each being predicted as any, at least.

    Of the maps of K classes to C those in which some k are permuted are at most K! / (K - k)! / C^k
    of all (for C = K just so many, with k or more on circles: Harris, "Probability distributions
    related to random mappings", Annals of Mathematical Statistics 31, 1960).

    Args:
        on_circles: k.
        known: K, the classes that have samples.
        classes: C.

    Returns:
        The natural logarithm of the bound.
    """
    of_maps = math.lgamma(known + 1) - math.lgamma(known - on_circles + 1)
    return min(0.0, of_maps - on_circles * math.log(classes))


def _log_moments(samples: int) -> FloatArray64:
    """The log of E exp(-t R) at each tilt t, of R throws of so many coins, at most half of them.

    Of exactly half of them the mean is on either side as often.
    """
    counts = np.arange(samples // 2 + 1, dtype=np.float64)
    log_weights = np.array(
        [-math.lgamma(r + 1) - math.lgamma(samples - r + 1) for r in range(len(counts))]
    )
    weights = np.exp(log_weights - log_weights.max())
    if samples % 2 == 0:
        weights[-1] /= 2
    weights /= weights.sum()
    found: FloatArray64 = np.log(np.exp(-_TILTS[:, None] * counts) @ weights)
    return found
