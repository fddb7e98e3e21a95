"""Sums of features by class, in float64."""

from __future__ import annotations

import numpy as np

from alphafix.values.arrays import FloatArray, FloatArray64, IntArray
from alphafix.values.head import Head

# Rows that are widened to float64 at a time.
_ROWS = 4096


class ClassSums:
    """Class sums and counts, accumulated batch by batch.

    Attributes:
        sums: float64 of shape C x D.
        counts: int64 of shape C.
        hits: Samples that a head predicts rightly, int64 of shape C; zeros without a head.
        head: The head, or None.
    """

    def __init__(self, num_classes: int, width: int, head: Head | None = None) -> None:
        self.head = head
        self.hits = np.zeros(num_classes, dtype=np.int64)
        self.sums = np.zeros((num_classes, width), dtype=np.float64)
        self.counts = np.zeros(num_classes, dtype=np.int64)

    def add(self, features: FloatArray | FloatArray64, labels: IntArray) -> None:
        """Add n x D features; samples with a negative label belong to no class."""
        known = labels >= 0
        if not known.all():
            features, labels = features[known], labels[known]
        from scipy.sparse import csr_array

        self.counts += np.bincount(labels, minlength=len(self.counts))
        for start in range(0, len(labels), _ROWS):
            own, rows = labels[start : start + _ROWS], features[start : start + _ROWS]
            # A one for each sample in the row of its class, which is faster than np.add.at. Only
            # classes that are among the samples take part: with a million others it would take
            # a million rows for each few thousand samples.
            classes, places = np.unique(own, return_inverse=True)
            every = np.arange(len(own))
            ones = csr_array((np.ones(len(own)), (places, every)), shape=(len(classes), len(own)))
            self.sums[classes] += ones @ rows.astype(np.float64)
        if self.head is not None:
            right = labels[self.head.predict(features.astype(np.float32, copy=False)) == labels]
            self.hits += np.bincount(right, minlength=len(self.hits))

    def means(self) -> FloatArray64:
        """Mean of each class, float64 of shape C x D; NaN for a class without samples."""
        return class_means(self.sums, self.counts)


def class_means(sums: FloatArray64, counts: IntArray) -> FloatArray64:
    """Sums of C x D features over the number of samples of each class; NaN for none."""
    with np.errstate(invalid="ignore"):
        means: FloatArray64 = sums / counts[:, None]
    return means
