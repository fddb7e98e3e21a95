"""Features that are arrays in memory, in the form of a feature store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from alphafix.errors import InputError
from alphafix.features.exchange import FeatureArrays
from alphafix.features.shards import check_rows
from alphafix.features.store import CHUNK_ROWS, FeatureStore
from alphafix.features.sums import ClassSums
from alphafix.values.arrays import FloatArray, FloatArray64, IntArray, as_array


@dataclass(frozen=True)
class MemoryStore(FeatureStore):
    """A feature store without files; everything that reads a store reads it too.

    Attributes:
        arrays: The features, labels and ids.
    """

    arrays: FeatureArrays

    @classmethod
    def of_arrays(
        cls,
        features: npt.ArrayLike,
        labels: npt.ArrayLike,
        *,
        ids: Sequence[str] | None = None,
        num_classes: int | None = None,
    ) -> MemoryStore:
        """Take N x D features with N class ids (see `FeatureStore.of`).

        Raises:
            InputError: If the shapes do not fit together, a label is no class id, or a
                feature is not finite.
        """
        rows, classes = _matrix(features), _class_ids(labels)
        names = tuple(str(i) for i in range(len(classes))) if ids is None else tuple(ids)
        count = int(classes.max(initial=-1)) + 1 if num_classes is None else num_classes
        check_rows(rows, classes, names, num_classes=count, dtype="float32")
        return cls(
            folder=Path("the given arrays"),  # for messages; nothing is read or written there
            shards=(),
            width=int(rows.shape[1]),
            num_classes=count,
            dtype="float32",
            info={},
            arrays=FeatureArrays(rows, classes, names),
        )

    def __len__(self) -> int:
        return len(self.arrays.labels)

    @property
    def labels(self) -> IntArray:
        """All labels, int64 of shape N."""
        return self.arrays.labels

    @property
    def ids(self) -> tuple[str, ...]:
        """All sample ids, N of them."""
        return self.arrays.ids

    def chunks(self, rows: int = CHUNK_ROWS) -> Iterator[tuple[int, FloatArray]]:
        """Read all features once, in order: (index of the first row, n x D float32)."""
        for start in range(0, len(self), rows):
            yield start, self.arrays.features[start : start + rows]

    def gather(self, index: IntArray) -> FloatArray:
        """Return the rows ``index``, len(index) x D."""
        return self.arrays.features[index]

    def means(self) -> FloatArray64:
        """Mean of each class, float64 of shape C x D; NaN for a class without samples."""
        found = ClassSums(self.num_classes, self.width)
        found.add(self.arrays.features, self.labels)
        with np.errstate(invalid="ignore"):
            means: FloatArray64 = found.sums / found.counts[:, None]
        return means


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
