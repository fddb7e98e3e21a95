"""The correction: the head rows that change, and all that is known of how they were found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from alphafix.errors import FileFormatError, InputError
from alphafix.files import read_tensors, write_tensors
from alphafix.values.arrays import Array, FloatArray, IntArray
from alphafix.values.display import Displayed
from alphafix.values.head import Head


def require_class_ids(classes: IntArray, num_classes: int | None = None) -> None:
    """Check that ids name different rows of a head, in ascending order.

    A wrong id would be a wrong place in a model file, so this is asked wherever ids come
    from a file and again before bytes are replaced.

    Args:
        classes: Class ids, of shape R.
        num_classes: C, if it is known.

    Raises:
        InputError: If an id is negative, repeated, out of order or not under C.
    """
    ids = np.asarray(classes)
    ascending = ids.ndim == 1 and bool((np.diff(ids) > 0).all())
    inside = ids.min(initial=0) >= 0 and (num_classes is None or ids.max(initial=-1) < num_classes)
    if not (np.issubdtype(ids.dtype, np.integer) and ascending and inside):
        limit = "C - 1" if num_classes is None else num_classes - 1
        raise InputError(
            "the class ids of a correction are not those of rows",
            got=f"{ids.dtype} {np.array2string(ids.ravel(), threshold=6)}",
            expected=f"different whole numbers in 0..{limit}, ascending",
            todo="the file is damaged or belongs to another model; make it again",
        )


@dataclass(frozen=True)
class Trials:
    """The trained trials behind a correction.

    The corrected rows of a trial follow from its alphas (AlphaNet, Eq. 2), so that only
    those are kept: T x F x K numbers instead of T x F x D.

    Attributes:
        settings: T records with "rho", "k" and "seed", and what validation said of each.
        neighbors: Class ids, int64 of shape T x F x K (padded with -1 where k < K).
        alphas: Coefficients of unit 1-norm, float32 of shape T x F x K (padded with 0).
        biases: Few-split biases, float32 of shape T x F.
    """

    settings: tuple[dict[str, Any], ...]
    neighbors: IntArray
    alphas: FloatArray
    biases: FloatArray

    def __len__(self) -> int:
        return len(self.settings)

    def only(self, trial: int) -> Trials:
        """One trial by itself."""
        return Trials(
            self.settings[trial : trial + 1],
            self.neighbors[trial : trial + 1],
            self.alphas[trial : trial + 1],
            self.biases[trial : trial + 1],
        )

    @classmethod
    def join(cls, parts: Sequence[Trials]) -> Trials:
        """All trials of ``parts`` in order, padded to the largest K."""
        k = max(part.neighbors.shape[2] for part in parts)

        def padded(array: Array, value: int) -> Array:
            missing = k - array.shape[2]
            return np.pad(array, ((0, 0), (0, 0), (0, missing)), constant_values=value)

        return cls(
            settings=tuple(record for part in parts for record in part.settings),
            neighbors=np.concatenate([padded(part.neighbors, -1) for part in parts]),
            alphas=np.concatenate([padded(part.alphas, 0) for part in parts]),
            biases=np.concatenate([part.biases for part in parts]),
        )

    def tensors(self) -> dict[str, Array]:
        """The arrays under the names that they have in files."""
        return {
            "trial_neighbors": self.neighbors,
            "trial_alphas": self.alphas,
            "trial_biases": self.biases,
        }

    @classmethod
    def of(cls, tensors: Mapping[str, Array], settings: list[Any]) -> Trials:
        """Read what `tensors` gave."""
        return cls(
            settings=tuple(settings),
            neighbors=tensors["trial_neighbors"],
            alphas=tensors["trial_alphas"],
            biases=tensors["trial_biases"],
        )

    def rows(self, trial: int, head: Head, classes: IntArray) -> FloatArray:
        """The corrected rows of one trial, F x D (AlphaNet, Eq. 2)."""
        neighbors = np.maximum(self.neighbors[trial], 0)  # padding has alpha 0
        moved = np.einsum("fk,fkd->fd", self.alphas[trial], head.weight[neighbors])
        rows: FloatArray = head.weight[classes] + moved.astype(np.float32)
        return rows


@dataclass(frozen=True)
class Correction(Displayed):
    """New values for some rows of a head.

    Attributes:
        classes: The R class ids whose rows change, int64, ascending (for AlphaNet the F
            few-split classes).
        rows: Their new rows, float32 of shape R x D.
        biases: Their new biases, float32 of shape R, or None to leave the biases alone.
        method: What made it ("alphanet", "tau-norm", ...).
        chosen: Which setting was chosen and why, as JSON data.
        trials: The trials behind it, or None for methods without.
        provenance: How it was made, as JSON data.
    """

    classes: IntArray
    rows: FloatArray
    biases: FloatArray | None
    method: str = "alphanet"
    chosen: dict[str, Any] = field(default_factory=dict)
    trials: Trials | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_class_ids(self.classes)
        for name, array in (("rows", self.rows), ("biases", self.biases)):
            if array is not None and len(array) != len(self.classes):
                raise InputError(
                    f"a correction's {name} do not fit its classes",
                    got=f"{len(array)} {name} for {len(self.classes)} classes",
                    expected="one a class",
                )
            if array is not None and not np.isfinite(array).all():
                raise InputError(
                    f"a correction's {name} are not finite",
                    got=f"{int((~np.isfinite(array)).sum())} values of NaN or inf",
                    expected="finite numbers",
                    todo="train again, with a smaller --lr if it diverged",
                )

    def apply(self, head: Head) -> Head:
        """Return the corrected head.

        Raises:
            InputError: If the correction belongs to a head of another shape.
        """
        if self.rows.shape[1] != head.width or self.classes.max(initial=-1) >= head.num_classes:
            raise InputError(
                "the correction belongs to another head",
                got=f"head {head.num_classes} x {head.width}, correction of "
                f"{len(self.classes)} rows of width {self.rows.shape[1]}, "
                f"largest class id {self.classes.max(initial=-1)}",
                expected="the head that it was trained for",
                todo="run the stages again with this model",
            )
        return head.with_rows(self.classes, self.rows, self.biases)

    def save(self, path: Path, *, overwrite: bool = False) -> None:
        """Write the correction as safetensors.

        The tensors are ``classes``, ``rows``, ``biases``, and ``trial_neighbors``,
        ``trial_alphas`` and ``trial_biases`` where there are trials.
        """
        tensors: dict[str, Array] = {"classes": self.classes, "rows": self.rows}
        metadata: dict[str, Any] = {
            "value": "correction",
            "method": self.method,
            "chosen": self.chosen,
            "provenance": self.provenance,
        }
        if self.biases is not None:
            tensors["biases"] = self.biases
        if self.trials is not None:
            tensors |= self.trials.tensors()
            metadata["trials"] = list(self.trials.settings)
        write_tensors(path, tensors, metadata, overwrite=overwrite)

    @classmethod
    def load(cls, path: Path) -> Correction:
        """Read what `save` wrote.

        Raises:
            FileFormatError: If the file is damaged or no correction.
        """
        tensors, metadata = read_tensors(path)
        if metadata.get("value") != "correction":
            raise FileFormatError(
                f"{path} is not a correction",
                got=f"tensors {', '.join(sorted(tensors))}",
                expected="a file that `alphafix train` wrote",
                todo="run `alphafix train`",
            )
        trials = None
        if "trials" in metadata:
            trials = Trials.of(tensors, metadata["trials"])
        return cls(
            classes=tensors["classes"],
            rows=tensors["rows"],
            biases=tensors.get("biases"),
            method=metadata["method"],
            chosen=metadata["chosen"],
            trials=trials,
            provenance=metadata.get("provenance") or {},
        )
