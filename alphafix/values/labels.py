"""Samples by class, from their labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alphafix.values.arrays import IntArray


@dataclass(frozen=True)
class ByClass:
    """The N samples grouped by class, in each class in their own order.

    Attributes:
        order: Sample indices, class after class, int64; samples of a negative label (open set)
            are left out.
        starts: Where each class begins in ``order``, and its end, int64 of shape C + 1.
    """

    order: IntArray
    starts: IntArray

    @classmethod
    def of(cls, labels: IntArray, num_classes: int | None = None) -> ByClass:
        """Group samples.

        Args:
            labels: Class ids, int64 of shape N.
            num_classes: C; the largest label and one by default.
        """
        count = int(labels.max(initial=-1)) + 1 if num_classes is None else num_classes
        order = np.argsort(labels, kind="stable").astype(np.int64)
        starts = np.searchsorted(labels[order], np.arange(count + 1)).astype(np.int64)
        return cls(order[starts[0] :], starts - starts[0])

    @property
    def sizes(self) -> IntArray:
        """Samples of each class, int64 of shape C."""
        return np.diff(self.starts)

    def samples(self, label: int) -> IntArray:
        """The samples of one class, ascending."""
        return self.order[self.starts[label] : self.starts[label + 1]]
