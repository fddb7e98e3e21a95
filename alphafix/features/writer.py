"""Writing a feature store: shards as they fill, class statistics on the way, manifest last."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alphafix.errors import InputError
from alphafix.features.store import MANIFEST, STATISTICS, FeatureStore, FloatArray, IntArray, Shard
from alphafix.files import Array, atomic_path, sha256_file, write_json, write_tensors

# A shard is written in one piece, so this bounds the memory of an extraction.
SHARD_BYTES = 64 << 20


class FeatureWriter:
    """Collects batches of features and writes them as shards.

    Class sums are accumulated in float64 in the same pass, so that class means need no
    second read of the features.

    Args:
        folder: Where the store is to be; it holds no manifest yet.
        num_classes: C.
        dtype: Stored element type: "float32", "float16" or "bfloat16".
        shard_bytes: Size at which a shard is written.
    """

    def __init__(
        self,
        folder: Path,
        *,
        num_classes: int,
        dtype: str = "float32",
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        self.folder = folder
        self.num_classes = num_classes
        self.dtype = dtype
        self.shard_bytes = shard_bytes
        self.shards: list[Shard] = []
        self.width: int | None = None
        self._features: list[FloatArray] = []
        self._labels: list[IntArray] = []
        self._ids: list[str] = []
        self._sums: npt.NDArray[np.float64] | None = None
        self._counts = np.zeros(num_classes, dtype=np.int64)

    def add(self, features: FloatArray, labels: IntArray, ids: Sequence[str]) -> None:
        """Append n x D features with n labels and n sample ids.

        Raises:
            InputError: If a feature is not finite, a label is out of range, or the numbers
                or the width differ.
        """
        self._check(features, labels, ids)
        if self._sums is None:
            self.width = features.shape[1]
            self._sums = np.zeros((self.num_classes, self.width), dtype=np.float64)
        known = labels >= 0
        np.add.at(self._sums, labels[known], features[known].astype(np.float64))
        np.add.at(self._counts, labels[known], 1)
        self._features.append(features)
        self._labels.append(labels)
        self._ids += ids
        if sum(part.nbytes for part in self._features) >= self.shard_bytes:
            self._flush()

    def _check(self, features: FloatArray, labels: IntArray, ids: Sequence[str]) -> None:
        if not len(features) == len(labels) == len(ids):
            raise InputError(
                "features, labels and ids differ in number",
                got=f"{len(features)} features, {len(labels)} labels, {len(ids)} ids",
                expected="the same number of each",
            )
        if self.width is not None and features.shape[1] != self.width:
            raise InputError(
                "features differ in width",
                got=f"{features.shape[1]} columns",
                expected=f"{self.width} columns as in the batches before",
            )
        wrong = (labels < -1) | (labels >= self.num_classes)
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            raise InputError(
                f"{int(wrong.sum())} labels are out of range",
                got=f"label {labels[first]} of sample {ids[first]}",
                expected=f"0..{self.num_classes - 1}, or -1 for open-set samples",
                todo="check that the labels count from 0 and that the head has all classes",
            )
        finite = np.isfinite(features).all(axis=1)
        if not finite.all():
            bad = [ids[int(i)] for i in np.flatnonzero(~finite)]
            raise InputError(
                f"{len(bad)} samples have features that are not finite (NaN or inf)",
                got=", ".join(bad[:5]) + (", ..." if len(bad) > 5 else ""),
                expected="finite features",
                todo="drop these samples, or extract them in float32",
            )

    def _flush(self) -> None:
        if not self._labels:
            return
        name = f"{len(self.shards):05d}.safetensors"
        labels = np.concatenate(self._labels)
        texts = [text.encode() for text in self._ids]
        tensors: dict[str, Array] = {
            "labels": labels,
            "id_bytes": np.frombuffer(b"".join(texts), dtype=np.uint8),
            "id_ends": np.cumsum([len(text) for text in texts], dtype=np.int64),
        }
        path = self.folder / name
        _write_shard(path, np.concatenate(self._features), tensors, self.dtype)
        self.shards.append(Shard(file=name, samples=len(labels), sha256=sha256_file(path)))
        self._features, self._labels, self._ids = [], [], []

    def finish(self, info: dict[str, Any] | None = None) -> FeatureStore:
        """Write what is left, the class statistics and the manifest; return the store."""
        self._flush()
        if self._sums is None or self.width is None:
            raise InputError(
                f"there is nothing to store in {self.folder}",
                expected="at least one sample",
                todo="check the data of this split",
            )
        write_tensors(
            self.folder / STATISTICS,
            {"sums": self._sums, "counts": self._counts},
            {"value": "class statistics"},
            overwrite=True,
        )
        manifest = {
            "value": "features",
            "num_samples": sum(shard.samples for shard in self.shards),
            "width": self.width,
            "num_classes": self.num_classes,
            "dtype": self.dtype,
            "statistics_sha256": sha256_file(self.folder / STATISTICS),
            "shards": [vars(shard) for shard in self.shards],
            **(info or {}),
        }
        write_json(self.folder / MANIFEST, manifest, overwrite=True)
        return FeatureStore.open(self.folder)


def _write_shard(path: Path, features: FloatArray, others: dict[str, Array], dtype: str) -> None:
    # torch, not NumPy, because NumPy has no bfloat16.
    import torch
    from safetensors.torch import save_file

    tensors = {name: torch.from_numpy(array.copy()) for name, array in others.items()}
    tensors["features"] = torch.from_numpy(features).to(getattr(torch, dtype)).contiguous()
    with atomic_path(path, overwrite=True) as temporary:
        save_file(tensors, temporary)
