"""What a classifier says of each sample: all that any figure needs, without N x C logits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from alphafix.features.features import Features
from alphafix.progress import Progress, silent
from alphafix.values.arrays import BoolArray, FloatArray, IntArray
from alphafix.values.correction import Correction
from alphafix.values.head import Head

Scorer = Callable[[FloatArray], FloatArray]
"""Gives n x C logits of n x D features."""

Scores = Callable[[FloatArray], Iterable[FloatArray]]
"""Gives n x C logits of several classifiers, of n x D features; one array is gone with the next."""

TOP = 5

# Logits of one chunk: 8 million float32 are 32 MB, and there are a few such arrays at a time.
CHUNK_LOGITS = 8 << 20


@dataclass(frozen=True)
class Predictions:
    """What one classifier says of N samples.

    Attributes:
        predicted: Class of the largest logit (the first of equals), int64 of shape N.
        top5: Whether the true class is among the five largest logits, bool of shape N.
        confidence: Softmax probability of ``predicted``, float32 of shape N.
    """

    predicted: IntArray
    top5: BoolArray
    confidence: FloatArray

    def only(self, samples: BoolArray) -> Predictions:
        """Those of some samples, bool of shape N."""
        return Predictions(self.predicted[samples], self.top5[samples], self.confidence[samples])

    @classmethod
    def join(cls, parts: Sequence[Predictions]) -> Predictions:
        """Those of all samples of ``parts`` in order."""
        return cls(
            np.concatenate([part.predicted for part in parts]),
            np.concatenate([part.top5 for part in parts]),
            np.concatenate([part.confidence for part in parts]),
        )


@dataclass(frozen=True)
class BeforeAfter:
    """What a head and its correction say of the same N samples.

    Attributes:
        labels: True classes, int64 of shape N; -1 for samples of unknown classes.
        before: Predictions of the base head.
        after: Predictions of the corrected head.
    """

    labels: IntArray
    before: Predictions
    after: Predictions

    def only(self, samples: BoolArray) -> BeforeAfter:
        """The same of some samples, bool of shape N."""
        return BeforeAfter(
            self.labels[samples], self.before.only(samples), self.after.only(samples)
        )


def chunk_rows(num_classes: int) -> int:
    """Samples whose logits are held at a time."""
    return max(32, min(4096, CHUNK_LOGITS // num_classes))


def read_logits(logits: FloatArray, labels: IntArray) -> tuple[IntArray, BoolArray, FloatArray]:
    """Predicted class, top-5 hit and confidence of n x C logits (each of shape n).

    A tie counts for the lower class id, in the top-5 as in the prediction. Samples of label
    -1 (open set) are never a hit.
    """
    rows = np.arange(len(logits))
    predicted = logits.argmax(axis=1).astype(np.int64)
    largest = logits[rows, predicted]
    confidence = 1.0 / np.exp(logits - largest[:, None]).sum(axis=1)
    own = logits[rows, labels][:, None]
    ahead = (logits > own).sum(axis=1)
    # Ties matter only where the larger logits alone leave the outcome open.
    tied = np.flatnonzero(ahead < TOP)
    before = np.arange(logits.shape[1]) < labels[tied, None]
    ahead[tied] += ((logits[tied] == own[tied]) & before).sum(axis=1)
    return predicted, (ahead < TOP) & (labels >= 0), confidence.astype(np.float32)


class _Collector:
    """Fills one classifier's predictions chunk by chunk."""

    def __init__(self, samples: int) -> None:
        self.predicted = np.empty(samples, dtype=np.int64)
        self.top5 = np.empty(samples, dtype=np.bool_)
        self.confidence = np.empty(samples, dtype=np.float32)

    def add(self, start: int, logits: FloatArray, labels: IntArray) -> None:
        rows = slice(start, start + len(logits))
        self.predicted[rows], self.top5[rows], self.confidence[rows] = read_logits(
            logits, labels[rows]
        )

    def done(self) -> Predictions:
        return Predictions(self.predicted, self.top5, self.confidence)


def predict(
    store: Features, scorers: Sequence[Scorer], *, progress: Progress = silent
) -> list[Predictions]:
    """Predictions of several classifiers in one pass over the features."""
    collectors = [_Collector(len(store)) for _ in scorers]
    for start, features in _chunks(store, "predicting", progress):
        for collector, scorer in zip(collectors, scorers, strict=True):
            collector.add(start, scorer(features), store.labels)
    return [collector.done() for collector in collectors]


def predict_pair(
    store: Features, head: Head, correction: Correction, *, progress: Progress = silent
) -> BeforeAfter:
    """Predictions of a head before and after its correction, in one pass over the features.

    Raises:
        InputError: If the correction belongs to a head of another shape.
    """
    scores = pair_scores(head, correction)
    both = (_Collector(len(store)), _Collector(len(store)))
    for start, features in _chunks(store, "evaluating", progress):
        for one, logits in zip(both, scores(features), strict=True):
            one.add(start, logits, store.labels)
    return BeforeAfter(store.labels, *(one.done() for one in both))


def pair_scores(head: Head, correction: Correction) -> Scores:
    """Logits of a head before and after its correction.

    Only the corrected columns are computed anew, so that the logits of all other classes are
    the same numbers in both.

    Raises:
        InputError: If the correction belongs to a head of another shape.
    """
    rows, mine = correction.apply(head), correction.classes
    part = Head(rows.weight[mine], rows.bias_or_zeros[mine], head.scale)

    def scores(features: FloatArray) -> Iterator[FloatArray]:
        logits = head.logits(features)
        yield logits
        logits[:, mine] = part.logits(features)
        yield logits

    return scores


def _chunks(store: Features, what: str, progress: Progress) -> Iterator[tuple[int, FloatArray]]:
    with progress(what, len(store)) as advance:
        for start, features in store.chunks(chunk_rows(store.num_classes)):
            yield start, features
            advance(len(features))
