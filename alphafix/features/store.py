"""The feature store: N x D features, labels and sample ids in memory-mapped shards.

A store is a folder with safetensors shards, each of ``features`` (n x D), ``labels`` (int64,
n), ``id_bytes`` (uint8, the UTF-8 of all ids end to end) and ``id_ends`` (int64, n), and a
``manifest.json`` that is written last: a folder without one is not a store yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alphafix.errors import FileFormatError, InputError, MissingStageError
from alphafix.features.shards import Shard
from alphafix.files import open_safetensors, read_json, sha256_file
from alphafix.values.arrays import Array, FloatArray, IntArray
from alphafix.values.display import Displayed

MANIFEST = "manifest.json"
STATISTICS = "statistics.safetensors"

# Rows per read when streaming: a few MB for common widths, so that memory stays flat.
CHUNK_ROWS = 4096


@dataclass(frozen=True)
class FeatureStore(Displayed):
    """N x D features with labels and sample ids, read in pieces.

    Attributes:
        folder: Where the shards are.
        shards: The shards, in order.
        width: D.
        num_classes: C; labels are in 0..C-1, or -1 for open-set samples.
        dtype: Stored element type ("float32", "float16" or "bfloat16").
        info: Everything else that the manifest says (source, provenance, skipped samples).
    """

    folder: Path
    shards: tuple[Shard, ...]
    width: int
    num_classes: int
    dtype: str
    info: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> FeatureStore:
        """Open a finished store.

        Raises:
            MissingStageError: If there is no manifest.
            FileFormatError: If the manifest is damaged or a shard is missing.
        """
        path = folder / MANIFEST
        if not path.is_file():
            raise MissingStageError(
                f"{folder} holds no finished features",
                expected=f"a feature store with {MANIFEST}",
                todo=f"run `alphafix extract --split {folder.name}`, or give --features",
            )
        data = read_json(path)
        try:
            shards = tuple(Shard(**entry) for entry in data.pop("shards"))
            store = cls(
                folder=folder,
                shards=shards,
                width=int(data.pop("width")),
                num_classes=int(data.pop("num_classes")),
                dtype=str(data.pop("dtype")),
                info=data,
            )
        except (KeyError, TypeError) as error:
            raise FileFormatError(
                f"{path} is not a feature manifest", got=repr(error), todo="extract again"
            ) from error
        for shard in shards:
            if not (folder / shard.file).is_file():
                raise FileFormatError(
                    f"a shard of {folder} is missing",
                    got=f"no {shard.file}",
                    expected=f"{len(shards)} shards as the manifest lists them",
                    todo="extract again with --overwrite",
                )
        return store

    @classmethod
    def of(
        cls,
        features: npt.ArrayLike,
        labels: npt.ArrayLike,
        *,
        ids: Sequence[str] | None = None,
        num_classes: int | None = None,
    ) -> FeatureStore:
        """A store in memory, without files.

        Args:
            features: N x D numbers (an array, or a torch tensor on any device).
            labels: N class ids in 0..C-1, or -1 for open-set samples.
            ids: N sample ids; the row numbers by default.
            num_classes: C; the largest label and one by default.

        Raises:
            InputError: If the shapes do not fit together, a label is no class id, or a
                feature is not finite.
        """
        from alphafix.features.memory import MemoryStore

        return MemoryStore.of_arrays(features, labels, ids=ids, num_classes=num_classes)

    def __len__(self) -> int:
        return sum(shard.samples for shard in self.shards)

    @cached_property
    def labels(self) -> IntArray:
        """All labels, int64 of shape N."""
        parts = [self._read(shard, "labels") for shard in self.shards]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """All sample ids, N of them."""
        found: list[str] = []
        for shard in self.shards:
            text = self._read(shard, "id_bytes").tobytes()
            ends = self._read(shard, "id_ends").tolist()
            starts = [0, *ends[:-1]] if ends else []
            found += [text[a:b].decode() for a, b in zip(starts, ends, strict=True)]
        return tuple(found)

    def _read(self, shard: Shard, name: str) -> Array:
        with open_safetensors(self.folder / shard.file, framework="numpy") as file:
            array: Array = file.get_tensor(name)
            return array

    def chunks(self, rows: int = CHUNK_ROWS) -> Iterator[tuple[int, FloatArray]]:
        """Read all features once, in order: (index of the first row, n x D float32)."""
        # NumPy has no bfloat16; for all else torch, seconds and 500 MB, is not loaded.
        framework = "pt" if self.dtype == "bfloat16" else "numpy"
        start = 0
        for shard in self.shards:
            with open_safetensors(self.folder / shard.file, framework=framework) as file:
                part = file.get_slice("features")
                for row in range(0, shard.samples, rows):
                    chunk = part[row : min(row + rows, shard.samples)]
                    wide = chunk.float().numpy() if framework == "pt" else chunk
                    yield start + row, np.asarray(wide, dtype=np.float32)
            start += shard.samples

    def gather(self, index: IntArray) -> FloatArray:
        """Return the rows ``index`` (ascending, unique), len(index) x D, in one pass."""
        out = np.empty((len(index), self.width), dtype=np.float32)
        for start, chunk in self.chunks():
            low, high = np.searchsorted(index, [start, start + len(chunk)])
            out[low:high] = chunk[index[low:high] - start]
        return out

    def array(self) -> FloatArray:
        """Return all features as one N x D float32 array (for small stores)."""
        return self.gather(np.arange(len(self), dtype=np.int64))

    def verify(self) -> None:
        """Compare each shard with the hash in the manifest.

        Raises:
            FileFormatError: If one differs.
        """
        for shard in self.shards:
            found = sha256_file(self.folder / shard.file)
            if found != shard.sha256:
                raise FileFormatError(
                    f"{self.folder / shard.file} has changed since it was written",
                    got=found[:12],
                    expected=shard.sha256[:12],
                    todo="extract again with --overwrite",
                )

    def require_labels(self, *, known_only: bool = True) -> None:
        """Check that all labels are in 0..C-1 (or, with ``known_only`` false, -1).

        Raises:
            InputError: If not, or if the store is empty.
        """
        lowest = 0 if known_only else -1
        if len(self) == 0:
            raise InputError(
                f"{self.folder} holds no samples",
                expected="at least one sample",
                todo="check the data of this split",
            )
        wrong = (self.labels < lowest) | (self.labels >= self.num_classes)
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            raise InputError(
                f"{int(wrong.sum())} labels of {self.folder} are out of range",
                got=f"label {self.labels[first]} of sample {first} ({self.ids[first]})",
                expected=f"{lowest}..{self.num_classes - 1}",
                todo="check that the labels count from 0 and that the head has all classes",
            )
