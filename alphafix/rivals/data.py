"""What every rival is fitted on, and what fitting gives: the one interface of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from alphafix.features.features import Features
from alphafix.features.scatter import WithinClass
from alphafix.features.sums import ClassSums
from alphafix.metrics.accuracy import Accuracy, tier_accuracy
from alphafix.metrics.selection import Rule
from alphafix.values.arrays import FloatArray, FloatArray64, IntArray
from alphafix.values.classes import ClassTable
from alphafix.values.correction import Chosen, Correction
from alphafix.values.head import Head

Knob = TypeVar("Knob")

# Samples whose C logits are held at a time when a setting is tried on validation.
CHUNK = 4096


@dataclass(frozen=True)
class FitData:
    """Features, head and classes: all that a post-hoc method may look at.

    Attributes:
        train: Training features and labels.
        val: Validation features and labels, on which hyper-parameters are chosen.
        head: The head to improve on.
        classes: The class table.
        max_overall_drop: Points of overall validation accuracy that a method with a knob
            between few and base classes may spend.
        seed: Seed of everything random.
    """

    train: Features
    val: Features
    head: Head
    classes: ClassTable
    max_overall_drop: float = 2.0
    seed: int = 0

    @cached_property
    def features(self) -> FloatArray:
        """Training features, float32 of shape N x D."""
        return self.train.array()

    @property
    def labels(self) -> IntArray:
        """Their classes, int64 of shape N."""
        return self.train.labels

    @cached_property
    def val_features(self) -> FloatArray:
        """Validation features, float32 of shape n x D."""
        return self.val.array()

    @property
    def val_labels(self) -> IntArray:
        """Their classes, int64 of shape n."""
        return self.val.labels

    @cached_property
    def means(self) -> FloatArray64:
        """Class means of the training features, float64 of shape C x D; 0 without samples."""
        return np.nan_to_num(self.train.class_means())

    @cached_property
    def counts(self) -> FloatArray64:
        """Training samples of each class as float64, shape C; at least 1 each."""
        counts = np.bincount(self.labels, minlength=len(self.classes))
        return np.maximum(counts, 1).astype(np.float64)

    @cached_property
    def prior(self) -> FloatArray64:
        """Share of each class among the training samples, float64 of shape C."""
        return np.asarray(self.counts / self.counts.sum())

    @cached_property
    def within(self) -> WithinClass:
        """Within-class covariance of the base classes' training features.

        Few-split samples do not count: a backbone that was trained on a handful of samples has
        them by heart, so that their scatter says nothing of new ones.
        """
        return self.train.within_class(self.classes.base)

    @cached_property
    def rule(self) -> Rule:
        """Greatest few-split accuracy on validation within the overall drop that is allowed."""
        base = self.validate(self.head.logits)
        return Rule("constrained", base, self.max_overall_drop)

    def validate(self, scorer: Callable[[FloatArray], FloatArray]) -> Accuracy:
        """Accuracy by split of n x D -> n x C logits on validation."""
        return self.accuracy(predictions(scorer, self.val_features))

    def accuracy(self, predicted: IntArray) -> Accuracy:
        """Accuracy by split of predictions on the validation samples."""
        return tier_accuracy(predicted == self.val_labels, self.val_labels, self.classes)

    def best(
        self, settings: Iterable[Knob], predict: Callable[[Knob], IntArray]
    ) -> tuple[Knob, Accuracy]:
        """The setting that `rule` likes best on validation, the first of equals.

        Where none is within the allowed drop, the one with the smallest drop.
        """
        tried = [(setting, self.accuracy(predict(setting))) for setting in settings]
        return max(tried, key=lambda one: self.goodness(one[1]))

    def goodness(self, accuracy: Accuracy) -> tuple[bool, float]:
        """A key by which allowed settings come before others."""
        value = self.rule.goodness(accuracy)
        if value is None:
            return (False, -self.rule.drop(accuracy))
        return (True, value)


@dataclass(frozen=True)
class Fitted:
    """A fitted method.

    Attributes:
        method: Its name.
        logits: n x D features -> n x C logits.
        settings: The hyper-parameters that validation chose.
        val: Accuracy by split on validation.
        correction: The head's new rows, where the method is a linear head; then ``logits``
            are those of the corrected head.
    """

    method: str
    logits: Callable[[FloatArray], FloatArray]
    settings: dict[str, Any]
    val: Accuracy
    correction: Correction | None = field(default=None, repr=False)


def linear(
    method: str,
    data: FitData,
    rows: FloatArray64 | FloatArray,
    biases: FloatArray64 | FloatArray,
    *,
    classes: IntArray | None = None,
    settings: dict[str, Any] | None = None,
) -> Fitted:
    """A method whose result is a linear head.

    Args:
        method: Its name.
        data: What it was fitted on.
        rows: New rows for logits without scale, R x D.
        biases: New biases, R; where the head has none and all are zero, it gets none.
        classes: The R classes whose rows are given; all C by default.
        settings: The hyper-parameters that were chosen.
    """
    head = data.head
    changed = np.arange(head.num_classes) if classes is None else classes
    biased = head.bias is not None or bool(np.any(biases))
    correction = Correction(
        classes=changed.astype(np.int64),
        rows=(rows / head.scale).astype(np.float32),
        biases=(biases / head.scale).astype(np.float32) if biased else None,
        method=method,
    )
    logits = correction.apply(head).logits
    val = data.validate(logits)
    chosen = Chosen({"method": method, **(settings or {})}, val, data.rule.base)
    return Fitted(method, logits, settings or {}, val, replace(correction, chosen=chosen))


def predictions(scorer: Callable[[FloatArray], FloatArray], features: FloatArray) -> IntArray:
    """Class of the largest logit, int64 of shape n."""
    parts = [
        scorer(features[start : start + CHUNK]).argmax(axis=1)
        for start in range(0, len(features), CHUNK)
    ]
    return np.concatenate(parts).astype(np.int64)


def class_means(
    values: FloatArray | FloatArray64, labels: IntArray, num_classes: int
) -> FloatArray64:
    """Mean of the rows of each class, float64 of shape C x D; zeros for one without samples."""
    found = ClassSums(num_classes, values.shape[1])
    found.add(values, labels)
    return np.asarray(found.sums / np.maximum(found.counts, 1)[:, None])


def unit(rows: FloatArray64) -> FloatArray64:
    """Rows of length one; a row of zeros stays one."""
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.where(norms == 0, 1, norms))
