"""OpenMax: how far a sample's logits are from those of its class (Bendale and Boult 2016)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from alphafix.errors import InputError
from alphafix.values.arrays import BoolArray, FloatArray, FloatArray64, IntArray
from alphafix.values.labels import ByClass

# The authors' values: distances behind each Weibull fit, and classes that are revised.
TAIL = 20
RANK = 10

# Under this number of correct training samples a class takes the pooled fit: two parameters
# cannot be had from a handful of distances, and few-split classes have no more.
LEAST = 10

# Samples whose float64 distances to all means are held at a time, by number of logits.
CHUNK_LOGITS = 4 << 20


@dataclass(frozen=True)
class OpenMax:
    """Softmax over C classes and an unknown one, to which improbable activations are moved.

    The activation v_c of each of the ``rank`` highest classes (rank i = 1, 2, ...) is
    multiplied by 1 - (rank + 1 - i) / rank · W_c(‖v - μ_c‖), where W_c is the Weibull
    distribution of the largest distances of correct training samples to their class mean
    μ_c. What is removed in all is the activation of the unknown class (Algorithm 2, as the
    authors' code has it; the formula as printed leaves nothing of a sample at the mean).
    Negative activations have nothing to give and stay.

    Attributes:
        means: Mean activation of each class, float64 of shape C x C.
        shapes: Weibull shape of each class, float64 of shape C.
        scales: Weibull scale of each class, float64 of shape C.
        pooled: Whether the class has too few correct samples and takes the fit of the
            pooled tails, bool of shape C.
        rank: Number of classes whose activations are revised.
    """

    means: FloatArray64
    shapes: FloatArray64
    scales: FloatArray64
    pooled: BoolArray
    rank: int = RANK

    @classmethod
    def fit(cls, logits: FloatArray, labels: IntArray, *, rank: int = RANK) -> OpenMax:
        """Fit means and tails to the logits of the training samples (Algorithm 1).

        A class with fewer than 20 correct samples uses all of them; one with fewer than 10, or
        without any spread, takes a fit of all other classes' tails together. The mean of a
        class without a correct sample is that of all its samples.

        Args:
            logits: Of the N training samples, float32 of shape N x C.
            labels: Their classes, int64 of shape N.
            rank: Number of classes whose activations are revised.

        Raises:
            InputError: If a class has no sample, or no class has distances to fit.
        """
        num_classes = logits.shape[1]
        means, tails = np.empty((num_classes, num_classes)), []
        for label, (activations, correct) in enumerate(_by_class(logits, labels)):
            means[label] = activations.mean(axis=0)
            distances = np.linalg.norm(activations - means[label], axis=1)
            tails.append(np.sort(distances[correct])[-TAIL:])
        own = np.array([len(found) >= LEAST and np.ptp(found) > 0 for found in tails])
        shapes, scales = np.empty(num_classes), np.empty(num_classes)
        for label in np.flatnonzero(own).tolist():
            shapes[label], scales[label] = weibull_fit(tails[label])
        if not own.all():
            shapes[~own], scales[~own] = weibull_fit(_pool(tails, own))
        return cls(means, shapes, scales, ~own, min(rank, num_classes))

    def probabilities(self, logits: FloatArray) -> FloatArray64:
        """N x C logits to probabilities of the classes and, last, of the unknown, N x (C+1).

        Raises:
            InputError: If they are of another number of classes.
        """
        num_classes = len(self.means)
        if logits.ndim != 2 or logits.shape[1] != num_classes:
            raise InputError(
                "the logits are not those of the classes that OpenMax was fitted to",
                got=f"shape {logits.shape}",
                expected=f"N x {num_classes}",
                todo="fit it to training logits of the same head",
            )
        found = np.empty((len(logits), num_classes + 1))
        rows = max(1, CHUNK_LOGITS // num_classes)
        for start in range(0, len(logits), rows):
            found[start : start + rows] = self._probabilities(
                logits[start : start + rows].astype(np.float64)
            )
        return found

    def unknown_scores(self, logits: FloatArray) -> FloatArray64:
        """How unknown each sample is: 1 - the largest probability of a class, of shape N."""
        scores: FloatArray64 = 1 - self.probabilities(logits)[:, :-1].max(axis=1)
        return scores

    def _probabilities(self, logits: FloatArray64) -> FloatArray64:
        from scipy.special import softmax

        order = np.argsort(-logits, axis=1, kind="stable")[:, : self.rank]
        top = np.take_along_axis(logits, order, axis=1)
        weights = (self.rank - np.arange(self.rank)) / self.rank
        removed = np.maximum(top, 0) * weights * self._outside(logits, order)
        revised = logits.copy()
        np.put_along_axis(revised, order, top - removed, axis=1)
        found: FloatArray64 = softmax(np.c_[revised, removed.sum(axis=1)], axis=1)
        return found

    def _outside(self, logits: FloatArray64, order: IntArray) -> FloatArray64:
        """Weibull probability of a smaller distance, n x rank, for the classes ``order``."""
        # ‖v - μ‖² = ‖v‖² - 2 v·μ + ‖μ‖² needs no n x C x C array.
        squares = (
            (logits**2).sum(axis=1)[:, None]
            - 2 * logits @ self.means.T
            + (self.means**2).sum(axis=1)
        )
        distances = np.sqrt(np.maximum(np.take_along_axis(squares, order, axis=1), 0))
        survival = np.exp(-((distances / self.scales[order]) ** self.shapes[order]))
        outside: FloatArray64 = 1 - survival
        return outside


def weibull_fit(values: FloatArray64) -> tuple[float, float]:
    """Shape and scale of the two-parameter Weibull distribution by maximum likelihood.

    The authors' library moves the values so that the least is 1 before the fit, which depends
    on the scale of the logits; here zero stays where it is.

    Args:
        values: Positive and not all equal, of any shape.
    """
    from scipy.stats import weibull_min

    size = float(values.mean())  # a fit near 1 converges whatever the scale of the logits
    shape, _, scale = weibull_min.fit(values / size, floc=0)
    return float(shape), float(scale) * size


def _by_class(logits: FloatArray, labels: IntArray) -> Iterator[tuple[FloatArray64, BoolArray]]:
    """Activations of each class's correct samples; of all, none marked, where none is correct."""
    right = logits.argmax(axis=1) == labels
    by_class = ByClass.of(labels, logits.shape[1])
    for label in range(logits.shape[1]):
        rows = by_class.samples(label)
        if not len(rows):
            raise InputError(
                "a class has no training samples to fit OpenMax to",
                got=f"class {label} with 0 samples",
                expected="at least one sample of every class",
                todo="fit it to the features of the whole training split",
            )
        used = rows[right[rows]] if right[rows].any() else rows
        yield logits[used].astype(np.float64), right[used]


def _pool(tails: Sequence[FloatArray64], own: BoolArray) -> FloatArray64:
    """The tails of the classes that have a fit of their own, or of all where none has one."""
    chosen = [found for found, good in zip(tails, own, strict=True) if good or not own.any()]
    values = np.concatenate(chosen)
    values = values[values > 0]
    if not len(values) or np.ptp(values) == 0:
        raise InputError(
            "OpenMax has no distances to fit",
            got=f"{len(values)} distances of correct samples to their class mean, all equal",
            expected="classes with several samples that the head gets right",
            todo="fit it to the features of the whole training split",
        )
    return values
