"""The neighbours: the base classes nearest to each few-split class."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alphafix.errors import call
from alphafix.files import read_tensors, write_tensors
from alphafix.reading.boundary import reading
from alphafix.reading.schema import require_arrays, typed
from alphafix.remote import home_path
from alphafix.values.arrays import Array, FloatArray, IntArray
from alphafix.values.classes import ClassTable
from alphafix.values.display import Displayed


@dataclass(frozen=True)
class Neighbours(Displayed):
    """The K base classes nearest to each of the F few-split classes.

    Attributes:
        few: Few-split class ids, int64 of shape F, ascending.
        ids: Their neighbours, nearest first, int64 of shape F x K.
        distances: Euclidean distance, or 1 - cosine, of the class means, float32, F x K.
        means: Class means of the training features, float32 of shape C x D.
        metric: "euclidean", "cosine" or "random" (whose distances are Euclidean).
        provenance: How it was made, as JSON data.
    """

    few: IntArray
    ids: IntArray
    distances: FloatArray
    means: FloatArray
    metric: str
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def k(self) -> int:
        """K."""
        return int(self.ids.shape[1])

    def records(self, classes: ClassTable) -> list[dict[str, Any]]:
        """One record a few-split class, with names, as JSON data."""
        return [
            {
                "class": int(few),
                "name": classes.names[few],
                "train": int(classes.counts[few]),
                "neighbors": [
                    {"class": int(q), "name": classes.names[q], "distance": float(d)}
                    for q, d in zip(ids, distances, strict=True)
                ],
            }
            for few, ids, distances in zip(self.few, self.ids, self.distances, strict=True)
        ]

    def save(self, path: Path, *, overwrite: bool = False) -> None:
        """Write safetensors with ``few``, ``ids``, ``distances`` and ``means``."""
        path = home_path(path)
        tensors: dict[str, Array] = {
            "few": self.few,
            "ids": self.ids,
            "distances": self.distances,
            "means": self.means,
        }
        metadata = {
            "value": "neighbours",
            "metric": self.metric,
            "provenance": self.provenance,
        }
        write_tensors(path, tensors, metadata, overwrite=overwrite)

    @classmethod
    def load(cls, path: Path) -> Neighbours:
        """Read what `save` wrote.

        Raises:
            FileFormatError: If the file is damaged or holds no neighbours.
        """
        path = home_path(path)
        tensors, metadata = read_tensors(path)
        todo = f"run {call('neighbors', overwrite=True)}"
        with reading(path, f"a file of neighbours that {call('neighbors')} wrote", todo=todo):
            form = {"few": "i F", "ids": "i F K", "distances": "f F K", "means": "f C D"}
            require_arrays(path, tensors, form)
            for ids in (tensors["few"], tensors["ids"]):
                if ids.size and not 0 <= ids.min() <= ids.max() < len(tensors["means"]):
                    raise ValueError("class ids that are not among its classes")
            return cls(
                **{name: tensors[name] for name in form},
                metric=typed(str, metadata["metric"], "metric"),
                provenance=typed(dict[str, Any], metadata.get("provenance") or {}, "provenance"),
            )
