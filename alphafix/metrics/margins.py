"""What an offset on the few-split logits changes, sample by sample, without N x C logits.

A sample's answer is its best few-split class or its best class of all others; which of the two
depends on the offset and on the margin between them, and on nothing else. So three numbers a
sample tell every prediction at every offset exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import FiniteFloat

from alphafix.errors import FileFormatError, call, counted
from alphafix.features.features import Features
from alphafix.files import read_tensors
from alphafix.metrics.predictions import Scores, chunk_rows
from alphafix.progress import Progress, silent
from alphafix.reading.boundary import reading
from alphafix.reading.schema import require_arrays, typed
from alphafix.values.arrays import Array, FloatArray, IntArray

ARRAYS = ("gap", "few", "other")


@dataclass(frozen=True)
class Margins:
    """For each of N samples the best few-split class, the best other class, and their margin.

    Attributes:
        gap: Best other logit less best few-split logit, float32 of shape N: a few-split class
            is the answer where an offset exceeds it.
        few: The best few-split class (the first of equals), int64 of shape N.
        other: The best medium or many class, int64 of shape N.
    """

    gap: FloatArray
    few: IntArray
    other: IntArray

    @classmethod
    def of(cls, logits: FloatArray, few: IntArray) -> Margins:
        """The margins in n x C logits.

        Args:
            logits: Of n samples, float32 of shape n x C.
            few: Few-split class ids, ascending.
        """
        every = np.arange(len(logits))
        best_few = few[logits[:, few].argmax(axis=1)]
        # A copy with the few columns out of the way is read faster than a choice of the others.
        rest = logits.copy()
        rest[:, few] = -np.inf
        best_other = rest.argmax(axis=1)
        gap = (logits[every, best_other] - logits[every, best_few]).astype(np.float32)
        # Of equal logits the lower class id is the prediction.
        tied = (gap == 0) & (best_few < best_other)
        return cls(np.where(tied, np.float32(-1e-30), gap), best_few, best_other)

    @classmethod
    def join(cls, parts: Sequence[Margins]) -> Margins:
        """Those of all samples of ``parts`` in order."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in ARRAYS))

    def predicted(self, offset: float = 0.0) -> IntArray:
        """The class of each sample with ``offset`` more on few-split logits, int64 of shape N."""
        return np.where(self.gap < offset, self.few, self.other)


def margins(
    store: Features, scores: Scores, few: IntArray, *, progress: Progress = silent
) -> list[Margins]:
    """Margins of several classifiers in one pass over the features.

    Args:
        store: N x D features.
        scores: Gives the logits of all classifiers, in the order of the result.
        few: Few-split class ids, ascending.
        progress: Told samples.
    """
    parts: list[list[Margins]] = []
    with progress("margins", len(store)) as advance:
        for _, features in store.chunks(chunk_rows(store.num_classes)):
            parts.append([Margins.of(logits, few) for logits in scores(features)])
            advance(len(features))
    return [Margins.join(mine) for mine in zip(*parts, strict=True)]


@dataclass(frozen=True)
class Steered:
    """A linear method whose every offset on few-split logits can be told.

    Attributes:
        name: Its row in the comparison.
        margins: At the offset that the row has.
        offset: That offset, as `alphafix train --at t=` counts it.
        train: The options of `alphafix train` that make it, by name, as JSON data; none of them
            for the correction that is there, and None where it cannot be moved.
    """

    name: str
    margins: Margins
    offset: float = 0.0
    train: Mapping[str, Any] | None = field(default_factory=dict)


def steered_tensors(
    methods: Sequence[Steered], plan: Mapping[str, Any]
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Methods as arrays and JSON metadata, for a file that `load_steered` reads.

    Args:
        methods: The methods.
        plan: How the comparison was made that they are of.
    """
    arrays = {
        f"{name}_{place}": _small(getattr(one.margins, name))
        for place, one in enumerate(methods)
        for name in ARRAYS
    }
    said = [{"name": m.name, "offset": m.offset, "train": dict(m.train or {})} for m in methods]
    return arrays, {"value": "margins", "methods": said, "provenance": dict(plan)}


def _small(array: Array) -> Array:
    return array.astype(np.int32) if array.dtype.kind == "i" else array


@dataclass(frozen=True)
class _Said:
    """What is read of a method beside its arrays."""

    name: str
    offset: FiniteFloat
    train: dict[str, Any]


def load_steered(
    path: Path, *, samples: int, classes: int
) -> tuple[tuple[Steered, ...], dict[str, Any]]:
    """Read methods and how their comparison was made.

    Args:
        path: The file.
        samples: N that they must have.
        classes: C, above all class ids.

    Raises:
        FileFormatError: If the file is damaged or of something else.
    """
    tensors, metadata = read_tensors(path)
    todo = f"run {call('compare', overwrite=True)} again"
    if metadata.get("value") != "margins":
        raise FileFormatError(f"{path} holds no margins of methods", todo=todo)
    with reading(path, "margins of methods", todo=todo):
        said = typed(list[_Said], metadata["methods"], "methods")
        plan = typed(dict[str, Any], metadata["provenance"], "provenance")
    forms = {"gap": "f N", "few": "i N", "other": "i N"}
    wanted = {f"{name}_{i}": form for i in range(len(said)) for name, form in forms.items()}
    require_arrays(path, tensors, wanted)
    ids = [array for name, array in tensors.items() if not name.startswith("gap")]
    strange = any(
        len(array) != samples or not np.isfinite(array).all() for array in tensors.values()
    )
    if strange or any(ids_.min(initial=0) < 0 or ids_.max(initial=0) >= classes for ids_ in ids):
        raise FileFormatError(
            f"{path} is of other samples or classes",
            got=f"{counted(len(next(iter(tensors.values()), ())), 'sample')}",
            expected=f"{counted(samples, 'sample')} of {classes} classes",
            todo=todo,
        )
    found = [
        Steered(
            one.name,
            Margins(
                tensors[f"gap_{i}"],
                tensors[f"few_{i}"].astype(np.int64),
                tensors[f"other_{i}"].astype(np.int64),
            ),
            one.offset,
            one.train,
        )
        for i, one in enumerate(said)
    ]
    return tuple(found), plan
