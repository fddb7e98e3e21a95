"""What all features are, wherever they lie, and features that are arrays in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from alphafix.errors import InputError, counted
from alphafix.features.scatter import ROWS, WithinClass, within_class
from alphafix.features.shards import check_rows, require_unique
from alphafix.features.sums import ClassSums
from alphafix.values.arrays import FloatArray, FloatArray64, IntArray, as_array
from alphafix.values.display import Displayed
from alphafix.values.labels import class_counts

# Rows a read when streaming: a few MB for common widths, so that memory stays flat.
CHUNK_ROWS = 4096


class Features(Displayed, ABC):
    """N x D features with labels and sample ids, which never change.

    Attributes:
        labels: Class ids, int64 of shape N; -1 for open-set samples.
        ids: N sample ids.
        width: D.
        num_classes: C; labels are below it.
        dtype: Element type in which they are stored.
    """

    labels: IntArray
    ids: tuple[str, ...]
    width: int
    num_classes: int
    dtype: str

    @staticmethod
    def of(
        features: npt.ArrayLike,
        labels: npt.ArrayLike,
        *,
        ids: Sequence[str] | None = None,
        num_classes: int | None = None,
    ) -> FeatureArrays:
        """Features in memory, without files.

        Args:
            features: N x D numbers (an array, or a torch tensor on any device).
            labels: N class ids in 0..C-1, or -1 for open-set samples.
            ids: N sample ids; the row numbers by default.
            num_classes: C; the largest label and one by default.

        Raises:
            InputError: If the shapes do not fit together, a label is no class id, a feature is
                not finite, or an id is there twice.
        """
        rows, classes = _matrix(features), _class_ids(labels)
        names = tuple(str(i) for i in range(len(classes))) if ids is None else tuple(ids)
        count = _classes_in(classes) if num_classes is None else num_classes
        check_rows(rows, classes, names, num_classes=count, dtype="float32")
        if ids is not None:
            require_unique(names, "the features")
        return FeatureArrays(rows, classes, names, count)

    @property
    @abstractmethod
    def name(self) -> str:
        """What they are called in messages."""

    @abstractmethod
    def chunks(self, rows: int = CHUNK_ROWS) -> Iterator[tuple[int, FloatArray]]:
        """Read all features once, in order: (index of the first row, n x D float32)."""

    def selected(self, index: IntArray) -> Iterator[tuple[slice, FloatArray]]:
        """Read the rows ``index`` (ascending, unique) once, in order, some at a time.

        Yields:
            The slice of ``index``, and its features, n x D float32.
        """
        for start, chunk in self.chunks():
            low, high = np.searchsorted(index, [start, start + len(chunk)]).tolist()
            if low < high:
                yield slice(low, high), chunk[index[low:high] - start]

    @abstractmethod
    def gather(self, index: IntArray) -> FloatArray:
        """Return the rows ``index`` (ascending, unique), len(index) x D float32, in one pass."""

    @abstractmethod
    def class_means(self) -> FloatArray64:
        """Mean of the (unnormalised) features of each class: z^c of AlphaNet, section 3.1.

        Returns:
            float64 of shape C x D; a row of NaN for a class without samples.
        """

    def within_class(self, classes: IntArray) -> WithinClass:
        """Within-class covariance of ``classes``, each with the same weight.

        Args:
            classes: Ids, int64.
        """
        return within_class(self.chunks(ROWS), self.labels, self.class_means(), classes)

    def class_counts(self) -> IntArray:
        """Samples of each class, int64 of shape C; those of no known class do not count."""
        return class_counts(self.labels, self.num_classes)

    def array(self) -> FloatArray:
        """Return all features as one N x D float32 array (for few samples)."""
        return self.gather(np.arange(len(self), dtype=np.int64))

    def require_labels(self, *, known_only: bool = True) -> None:
        """Check that all labels are in 0..C-1 (or, with ``known_only`` false, -1).

        Raises:
            InputError: If not, or if there are no samples.
        """
        lowest = 0 if known_only else -1
        if len(self) == 0:
            raise InputError(
                f"{self.name} holds no samples",
                expected="at least one sample",
                todo="check the data of this split",
            )
        wrong = (self.labels < lowest) | (self.labels >= self.num_classes)
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            raise InputError(
                f"{counted(int(wrong.sum()), 'label')} of {self.name} out of range",
                got=f"label {self.labels[first]} of sample {first} ({self.ids[first]})",
                expected=f"{lowest}..{self.num_classes - 1}",
                todo="check that the labels count from 0 and that the head has all classes",
            )

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class FeatureArrays(Features):
    """Features in memory.

    Attributes:
        features: float32 of shape N x D.
        labels: Class ids, int64 of shape N; -1 for open-set samples.
        ids: N sample ids.
        num_classes: C; labels are below it.
        dtype: That of the array.
    """

    features: FloatArray
    labels: IntArray
    ids: tuple[str, ...]
    num_classes: int
    dtype: str = "float32"

    @classmethod
    def read(cls, features: FloatArray, labels: IntArray, ids: Sequence[str]) -> FeatureArrays:
        """Arrays as a file held them, with as many classes as there are in the labels."""
        return cls(features, labels, tuple(ids), _classes_in(labels))

    @cached_property
    def width(self) -> int:  # type: ignore[override]  # frozen: nothing is written to it
        """D."""
        return int(self.features.shape[1])

    @property
    def name(self) -> str:
        """They have no name."""
        return "the given features"

    def chunks(self, rows: int = CHUNK_ROWS) -> Iterator[tuple[int, FloatArray]]:
        """Read all features once, in order: (index of the first row, n x D float32)."""
        for start in range(0, len(self), rows):
            yield start, self.features[start : start + rows]

    def gather(self, index: IntArray) -> FloatArray:
        """Return the rows ``index``, len(index) x D float32."""
        return self.features[index]

    def class_means(self) -> FloatArray64:
        """Mean of each class, float64 of shape C x D; NaN for a class without samples."""
        return self._means

    @cached_property
    def _means(self) -> FloatArray64:
        found = ClassSums(self.num_classes, self.width)
        found.add(self.features, self.labels)
        return found.means()


def _classes_in(labels: IntArray) -> int:
    return int(labels.max(initial=-1)) + 1


def _matrix(features: npt.ArrayLike) -> FloatArray:
    array = as_array(features)
    if array.ndim != 2 or array.dtype.kind not in "fiub":
        raise InputError(
            "features are no matrix of numbers",
            got=f"shape {array.shape}, dtype {array.dtype}",
            expected="N samples x D features",
            todo="give one row of numbers a sample",
        )
    return np.ascontiguousarray(array, dtype=np.float32)


def _class_ids(labels: npt.ArrayLike) -> IntArray:
    array = as_array(labels)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise InputError(
            "labels are no class ids",
            got=f"shape {array.shape}, dtype {array.dtype}",
            expected="N integers from 0 to C-1, in the order of the head's rows",
            todo="number the classes, for example with numpy.unique(..., return_inverse=True)",
        )
    return array.astype(np.int64, copy=False)
