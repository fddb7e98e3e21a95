"""Which classes are like which others, without a matrix of C x C."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from alphafix.values.arrays import BoolArray, IntArray

# Pairs of classes that are looked up at a time.
CHUNK = 1 << 16

Marks = tuple[IntArray, IntArray]
"""Classes and, for each, one of its marks: two int64 arrays of the same shape."""


@dataclass(frozen=True)
class Alike:
    """Which predicted class counts as like which true one.

    A class asks for marks and has marks; a predicted class is like a true one if it has a mark
    that the true one asks for. So groups of any size take one mark a member.

    Attributes:
        asked: Marks that each class asks for, a sparse matrix of shape C x marks (int8, CSR).
        had: Marks that each class has, of the same shape.
    """

    asked: Any
    had: Any

    @classmethod
    def of_pairs(cls, true: IntArray, predicted: IntArray, num_classes: int) -> Alike:
        """Like where ``predicted[i]`` is predicted in place of ``true[i]``, and nowhere else."""
        everything = np.arange(num_classes)
        return cls._of((true, predicted), (everything, everything), num_classes)

    @classmethod
    def of_marks(cls, asked: Marks, had: Marks, num_classes: int) -> Alike:
        """Like where marks are shared; a class is like itself in any case."""
        everything = np.arange(num_classes)
        own = everything + 1 + max((int(marks.max(initial=-1)) for _, marks in (asked, had)))

        def with_own(marks: Marks) -> Marks:
            return np.r_[marks[0], everything], np.r_[marks[1], own]

        return cls._of(with_own(asked), with_own(had), num_classes)

    @classmethod
    def _of(cls, asked: Marks, had: Marks, num_classes: int) -> Alike:
        from scipy.sparse import csr_matrix

        width = 1 + max(int(marks.max(initial=-1)) for _, marks in (asked, had))
        return cls(
            *(
                csr_matrix((np.ones(len(ids), dtype=np.int8), (ids, marks)), (num_classes, width))
                for ids, marks in (asked, had)
            )
        )

    def among(self, predicted: IntArray) -> Alike:
        """The same with no class like any other but those of ``predicted``."""
        kept = np.zeros(self.had.shape[0], dtype=np.int8)
        kept[predicted] = 1
        return Alike(self.asked, self.had.multiply(kept[:, None]).tocsr())

    def holds(self, true: IntArray, predicted: IntArray) -> BoolArray:
        """Whether each predicted class is like the true one.

        Args:
            true: Class ids, int64 of shape N.
            predicted: Class ids, int64 of shape N.

        Returns:
            bool of shape N.
        """
        found = np.empty(len(true), dtype=np.bool_)
        for start in range(0, len(true), CHUNK):
            rows = slice(start, start + CHUNK)
            shared = self.asked[true[rows]].multiply(self.had[predicted[rows]])
            found[rows] = shared.getnnz(axis=1) > 0
        return found
