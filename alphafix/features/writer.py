"""Writing a feature store: shards as they fill, class statistics on the way, manifest last."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from alphafix.errors import InputError
from alphafix.features.features import Features
from alphafix.features.shards import SHARD_BYTES, Shard, check_rows, write_shard
from alphafix.features.store import MANIFEST, STATISTICS, FeatureStore
from alphafix.features.sums import ClassSums
from alphafix.features.verification import remember
from alphafix.files import sha256_file, write_json, write_tensors
from alphafix.progress import Progress, silent
from alphafix.run.artifact import Artifact
from alphafix.values.arrays import FloatArray, IntArray
from alphafix.values.head import Head


class FeatureWriter:
    """Collects batches of features and writes them as shards.

    Class sums are accumulated in float64 in the same pass, so that class means need no
    second read of the features.

    Args:
        folder: Where the store is to be; it holds no manifest yet.
        num_classes: C.
        dtype: Stored element type: "float32", "float16" or "bfloat16".
        shard_bytes: Size at which a shard is written.
        head: The head that the features enter, whose hits are counted by class.
    """

    def __init__(
        self,
        folder: Path,
        *,
        num_classes: int,
        dtype: str = "float32",
        shard_bytes: int = SHARD_BYTES,
        head: Head | None = None,
    ) -> None:
        self.folder = folder
        self.num_classes = num_classes
        self.dtype = dtype
        self.shard_bytes = shard_bytes
        self.head = head
        self.shards: list[Shard] = []
        self.width: int | None = None
        self._features: list[FloatArray] = []
        self._labels: list[IntArray] = []
        self._ids: list[str] = []
        self._sums: ClassSums | None = None

    def add(self, features: FloatArray, labels: IntArray, ids: Sequence[str]) -> None:
        """Append n x D features with n labels and n sample ids.

        Raises:
            InputError: If a feature is not finite or too large for the stored type, a label
                is out of range, or the numbers or the width differ.
        """
        check_rows(features, labels, ids, num_classes=self.num_classes, dtype=self.dtype)
        if self.width is not None and features.shape[1] != self.width:
            raise InputError(
                "features differ in width",
                got=f"{features.shape[1]} columns",
                expected=f"{self.width} columns as in the batches before",
            )
        self.width = features.shape[1]
        self._features.append(features)
        self._labels.append(labels)
        self._ids += ids
        if sum(part.nbytes for part in self._features) >= self.shard_bytes:
            self._flush()

    def _flush(self) -> None:
        if not self._labels or self.width is None:
            return
        if self._sums is None:
            self._sums = ClassSums(self.num_classes, self.width, self.head)
        path = self.folder / f"{len(self.shards):05d}.safetensors"
        labels = np.concatenate(self._labels)
        features = np.concatenate(self._features)
        shard, stored = write_shard(path, features, labels, self._ids, dtype=self.dtype)
        self._sums.add(stored, labels)
        self.shards.append(shard)
        self._features, self._labels, self._ids = [], [], []

    def finish(self, info: dict[str, Any] | None = None) -> FeatureStore:
        """Write what is left, the class statistics and the manifest; return the store.

        Raises:
            InputError: If nothing was added.
        """
        self._flush()
        if self._sums is None:
            raise nothing_to_store(self.folder)
        return write_manifest(
            self.folder, self.shards, self._sums, dtype=self.dtype, info=info or {}
        )


def write_store(
    artifact: Artifact,
    features: Features,
    *,
    split: str,
    head: Head,
    dtype: str = "float32",
    progress: Progress = silent,
) -> FeatureStore:
    """Write features that are there already as a store, from the beginning.

    What stops in the middle leaves nothing: nobody goes on with it.

    Args:
        artifact: The store, as `alphafix.features.store.store_artifact` gives it.
        features: The features.
        split: Its split, for the manifest.
        head: The head that they enter, of C classes.
        dtype: Stored element type.
        progress: Told of each piece.

    Raises:
        InputError: See `FeatureWriter.add`.
    """
    artifact = replace(artifact, unfinished=None)
    folder = artifact.path.parent
    artifact.begin()
    try:
        writer = FeatureWriter(folder, num_classes=head.num_classes, dtype=dtype, head=head)
        with progress(f"import {split}", len(features)) as advance:
            for start, chunk in features.chunks():
                rows = slice(start, start + len(chunk))
                writer.add(chunk, features.labels[rows], features.ids[rows])
                advance(len(chunk))
        return writer.finish({"split": split, "skipped": 0, "provenance": dict(artifact.plan)})
    except BaseException:
        artifact.clear()
        with contextlib.suppress(OSError):  # of other splits something is there
            folder.parent.rmdir()
        raise


def nothing_to_store(folder: Path) -> InputError:
    """Return the error of a store without samples."""
    return InputError(
        f"there is nothing to store in {folder}",
        expected="at least one sample",
        todo="check the data of this split",
    )


def write_manifest(
    folder: Path, shards: Sequence[Shard], sums: ClassSums, *, dtype: str, info: dict[str, Any]
) -> FeatureStore:
    """Write the class statistics and, last of all, the manifest; return the store."""
    write_tensors(
        folder / STATISTICS,
        {"sums": sums.sums, "counts": sums.counts, **({"hits": sums.hits} if sums.head else {})},
        {"value": "class statistics"},
        overwrite=True,
    )
    manifest = {
        "value": "features",
        "num_samples": sum(shard.samples for shard in shards),
        "width": int(sums.sums.shape[1]),
        "num_classes": int(sums.sums.shape[0]),
        "dtype": dtype,
        "statistics_sha256": sha256_file(folder / STATISTICS),
        "shards": [vars(shard) for shard in shards],
        **info,
    }
    write_json(folder / MANIFEST, manifest, overwrite=True)
    remember(folder, shards, time.time_ns())  # each was hashed when it was written
    return FeatureStore.open(folder)
