"""The feature store: N x D features, labels and sample ids in memory-mapped shards.

A store is a folder with safetensors shards, each of ``features`` (n x D), ``labels`` (int64,
n), ``id_bytes`` (uint8, the UTF-8 of all ids end to end) and ``id_ends`` (int64, n), and a
``manifest.json`` that is written last: a folder without one is not a store yet.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from alphafix.errors import FileFormatError, InputError, MissingStageError, counted, option
from alphafix.features.features import CHUNK_ROWS, Features
from alphafix.features.scatter import ROWS, WithinClass, within_class
from alphafix.features.shards import Shard
from alphafix.features.sums import class_means
from alphafix.features.verification import require_inside, verify_shards
from alphafix.files import (
    digest,
    open_safetensors,
    read_metadata,
    read_object,
    read_tensors,
    sha256_file,
    write_tensors,
)
from alphafix.reading.boundary import reading
from alphafix.reading.schema import Count, require_arrays, typed
from alphafix.remote import home_path
from alphafix.run.artifact import Artifact, Plan
from alphafix.run.origin import how_to_get
from alphafix.values.arrays import Array, FloatArray, FloatArray64, IntArray
from alphafix.values.texts import Texts

if TYPE_CHECKING:  # it would load torch
    from alphafix.distributed import Ranks

MANIFEST = "manifest.json"
STATISTICS = "statistics.safetensors"
SCATTER = "within-class.safetensors"
PARTIAL = "partial"

_SHARD = "a shard of features"

# Where reading copies, rows are read one by one if not more than one of so many is wanted.
SPARSE = 3


@dataclass(frozen=True)
class _Window:
    """Some rows of an open shard.

    Attributes:
        part: What safetensors reads rows of: copies of them for NumPy, views of the mapped file for
            torch.
        first: The first row, in the shard.
        stop: The one after the last.
        mapped: Whether ``part`` gives views.
    """

    part: Any
    first: int
    stop: int
    mapped: bool

    def rows(self) -> FloatArray:
        """All of them, float32 of shape n x D."""
        return _as_float32(self.part[self.first : self.stop])

    def chosen(self, index: IntArray) -> FloatArray:
        """Those at ``index`` (ascending, counted from the first), float32; others hardly cost."""
        if self.mapped:
            return _as_float32(self.part[self.first : self.stop][index])
        if len(index) > (self.stop - self.first) // SPARSE:
            return self.rows()[index]
        runs = np.split(self.first + index, np.flatnonzero(np.diff(index) > 1) + 1)
        rows = [_as_float32(self.part[int(run[0]) : int(run[-1]) + 1]) for run in runs]
        return np.concatenate(rows)


def _as_float32(values: Any) -> FloatArray:
    """Values of safetensors for NumPy or torch as float32."""
    wide = values if isinstance(values, np.ndarray) else values.float().numpy()
    return np.asarray(wide, dtype=np.float32)


def store_artifact(folder: Path, plan: Plan, name: str = MANIFEST) -> Artifact:
    """The store in ``folder`` as ``plan`` would make it; ``name`` is the file written last.

    Each finished shard of an unfinished store says of which samples it is: of data that has changed
    since, those whose samples are as they were stay.
    """
    return Artifact(
        folder / name,
        plan,
        unfinished=folder / PARTIAL,
        owned=(folder,),
        by_part=("data_sha256", "data_hashed"),
    )


def validation_from(train: Features) -> str:
    """What gives validation features beside those of training, in the words of an error."""
    if not isinstance(train, FeatureStore):
        return f"give them with {option('val')}"
    return how_to_get("val", _plan_of(train.info).get("stage", ""))


def _plan_of(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """How features say that they were made."""
    plan = manifest.get("provenance")
    return plan if isinstance(plan, dict) else {}


def _origin_beside(folder: Path) -> str | None:
    """The stage that made the training features beside a store; None where there are none."""
    path = folder.parent / "train" / MANIFEST
    return str(_plan_of(read_object(path)).get("stage", "")) if path.is_file() else None


def made_with(store: FeatureStore) -> dict[str, Any]:
    """How features were made: the options in their manifest, and the hash of their statistics."""
    with reading(store.folder / MANIFEST, "a feature manifest", todo="extract again"):
        plan = typed(dict[str, Any], store.info.get("provenance") or {}, "provenance")
        options = typed(dict[str, Any], plan.get("options") or {}, "options")
    return {**options, "statistics_sha256": store.info.get("statistics_sha256")}


@dataclass(frozen=True)
class _Manifest:
    """What is read of a manifest, beside what it is only told."""

    shards: tuple[Shard, ...]
    width: Count
    num_classes: Count
    dtype: Literal["float32", "float16", "bfloat16"]


@dataclass(frozen=True)
class FeatureStore(Features):
    """N x D features with labels and sample ids on disk, read in pieces.

    Attributes:
        folder: Where the shards are.
        shards: The shards, in order.
        width: D.
        num_classes: C; labels are in 0..C-1, or -1 for open-set samples.
        dtype: Stored element type ("float32", "float16" or "bfloat16").
        info: Everything else that the manifest says (source, provenance, skipped samples).
        verifies: Whether shards are compared with their hashes before they are first read.
    """

    folder: Path
    shards: tuple[Shard, ...]
    width: int
    num_classes: int
    dtype: str
    info: dict[str, Any]
    verifies: bool = True

    @classmethod
    def open(cls, folder: Path, *, verify: bool = True) -> FeatureStore:
        """Open a finished store.

        Args:
            folder: Where it is.
            verify: Whether its shards are compared with their hashes before they are first read
                (once: a shard that has not changed since is not hashed again).

        Raises:
            MissingStageError: If there is no manifest.
            FileFormatError: If the manifest is damaged, or a shard is missing or elsewhere. When
                it is read: if a shard is not what the manifest says.
        """
        folder = home_path(folder)
        path = folder / MANIFEST
        if not path.is_file():
            raise MissingStageError(
                f"{folder} holds no finished features",
                expected=f"a feature store with {MANIFEST}",
                todo=f"{how_to_get(folder.name, _origin_beside(folder))}, or give "
                f"{option('features')}",
            )
        with reading(path, "a feature manifest", todo="extract again"):
            data = read_object(path)
            manifest = typed(_Manifest, data)
        own = vars(manifest)
        info = {name: value for name, value in data.items() if name not in own}
        store = cls(folder=folder, info=info, verifies=verify, **own)
        if len(store) != data.get("num_samples", len(store)):
            raise FileFormatError(
                f"{path} is not a feature manifest",
                got=f"{data['num_samples']} samples, in its shards {len(store)}",
                todo="extract again",
            )
        require_inside(folder, store.shards)
        return store

    @property
    def name(self) -> str:
        """The folder."""
        return str(self.folder)

    def __len__(self) -> int:
        return sum(shard.samples for shard in self.shards)

    @cached_property
    def labels(self) -> IntArray:  # type: ignore[override]  # frozen
        """All labels, int64 of shape N."""
        parts = [self._read(shard, "labels") for shard in self.shards]
        for shard, labels in zip(self.shards, parts, strict=True):
            if labels.dtype != np.int64 or labels.shape != (shard.samples,):
                raise _another(self.folder / shard.file, f"labels {labels.dtype} {labels.shape}")
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)

    @cached_property
    def ids(self) -> tuple[str, ...]:  # type: ignore[override]  # frozen
        """All sample ids, N of them."""
        found: list[str] = []
        for shard in self.shards:
            with reading(self.folder / shard.file, _SHARD):
                texts = Texts.read(self._read(shard, "id_bytes"), self._read(shard, "id_ends"))
                if len(texts) != shard.samples:
                    raise ValueError(f"{counted(len(texts), 'id')} of {shard.samples} samples")
                found += texts
        return tuple(found)

    @cached_property
    def _verified(self) -> bool:
        """Whether the shards were compared with their hashes, which is done when it is asked."""
        if self.verifies:
            verify_shards(self.folder, self.shards)
        return self.verifies

    def _read(self, shard: Shard, name: str) -> Array:
        _ = self._verified
        path = self.folder / shard.file
        with open_safetensors(path, framework="numpy") as file, reading(path, _SHARD):
            array: Array = file.get_tensor(name)
            return array

    def chunks(self, rows: int = CHUNK_ROWS) -> Iterator[tuple[int, FloatArray]]:
        """Read all features once, in order: (index of the first row, n x D float32)."""
        return self._chunks(rows)

    def selected(self, index: IntArray) -> Iterator[tuple[slice, FloatArray]]:
        """Read the rows ``index``; of the others hardly any is touched."""
        for start, window in self._windows(CHUNK_ROWS):
            low, high = np.searchsorted(index, [start, start + window.stop - window.first]).tolist()
            if low < high:
                yield slice(low, high), window.chosen(index[low:high] - start)

    def _chunks(self, rows: int, first: int = 0, step: int = 1) -> Iterator[tuple[int, FloatArray]]:
        """The same of every ``step``-th shard, from the ``first`` on."""
        for start, window in self._windows(rows, first, step):
            yield start, window.rows()

    def _windows(self, rows: int, first: int = 0, step: int = 1) -> Iterator[tuple[int, _Window]]:
        """Where in the store each chunk begins, and what reads it."""
        _ = self._verified
        # NumPy has no bfloat16; else torch, seconds and 500 MB, is not loaded for this. Where it is
        # there it reads without copying.
        mapped = self.dtype == "bfloat16" or "torch" in sys.modules
        starts = np.cumsum([0, *(shard.samples for shard in self.shards)]).tolist()
        for shard, start in list(zip(self.shards, starts, strict=False))[first::step]:
            path, framework = self.folder / shard.file, "pt" if mapped else "numpy"
            with open_safetensors(path, framework=framework) as file:
                with reading(path, _SHARD):
                    part = file.get_slice("features")
                if part.get_shape() != [shard.samples, self.width]:
                    raise _another(path, f"features {part.get_shape()}")
                for row in range(0, shard.samples, rows):
                    stop = min(row + rows, shard.samples)
                    yield start + row, _Window(part, row, stop, mapped)

    def gather(self, index: IntArray) -> FloatArray:
        """Return the rows ``index`` (ascending, unique), len(index) x D, in one pass."""
        out: FloatArray | None = None
        for start, chunk in self.chunks():
            if out is None:  # now that the width is known to be as the manifest says
                out = np.empty((len(index), self.width), dtype=np.float32)
            low, high = np.searchsorted(index, [start, start + len(chunk)])
            out[low:high] = chunk[index[low:high] - start]
        return np.empty((0, self.width), dtype=np.float32) if out is None else out

    def class_means(self) -> FloatArray64:
        """Mean of each class, float64 of shape C x D; NaN for a class without samples.

        The sums were accumulated in float64 when the store was written, so that nothing is read
        but C x D numbers.

        Raises:
            InputError: If the statistics do not belong to the store.
        """
        statistics = self._statistics()
        return class_means(statistics["sums"], statistics["counts"])

    def class_hits(self) -> IntArray | None:
        """Samples of each class that the run's head predicts rightly, int64 of shape C.

        They were counted when the store was written; None where that was done without the head.

        Raises:
            InputError: If the statistics do not belong to the store.
        """
        return self._statistics().get("hits")

    def _statistics(self) -> dict[str, Array]:
        path = self.folder / STATISTICS
        if not path.is_file() or sha256_file(path) != self.info.get("statistics_sha256"):
            raise InputError(
                f"{path} does not belong to these features",
                expected="the statistics that were written with them",
                todo=f"extract again with {option('overwrite', True)}",
            )
        statistics, _ = read_tensors(path)
        require_arrays(path, statistics, {"sums": "f C D", "counts": "i C"})
        return statistics

    def within_class(self, classes: IntArray, ranks: Ranks | None = None) -> WithinClass:
        """Within-class covariance of ``classes``, each with the same weight.

        It is kept beside the class means, so that the features are read once for it; which
        classes count is known only when all are counted, so not while features are extracted.

        Args:
            classes: Ids, int64.
            ranks: All processes, each of which reads its share of the shards; None for this one.
        """
        path = self.folder / SCATTER
        made_from = digest([self.info.get("statistics_sha256"), classes.tolist()])
        kept = path.is_file() and read_metadata(path).get("made_from") == made_from
        if ranks is not None:
            # On a network file system not all may see it yet, and those that do must not go on.
            kept = ranks.of_first(kept)
        if kept:
            tensors, metadata = read_tensors(path)
            require_arrays(path, tensors, {"covariance": "f D D"})
            return WithinClass(
                tensors["covariance"], typed(float, metadata["shrinkage"], path.name)
            )
        if ranks is None or ranks.world == 1:
            found = super().within_class(classes)
        else:
            mine = self._chunks(ROWS, ranks.rank, ranks.world)
            found = within_class(mine, self.labels, self.class_means(), classes, ranks.add_up)
            if not ranks.first:
                return found
        if os.access(self.folder, os.W_OK):  # features on a read-only disk serve as well
            metadata = {"made_from": made_from, "shrinkage": found.shrinkage}
            write_tensors(path, {"covariance": found.covariance}, metadata, overwrite=True)
        return found

    def require_whole(self) -> None:
        """Compare each shard that may have changed with the hash in the manifest.

        Raises:
            FileFormatError: If one differs.
        """
        verify_shards(self.folder, self.shards)

    def verify(self) -> None:
        """Compare each shard with the hash in the manifest, whether or not that was done before.

        Raises:
            FileFormatError: If one differs.
        """
        verify_shards(self.folder, self.shards, anew=True)


def _another(path: Path, got: str) -> FileFormatError:
    return FileFormatError(
        f"{path} is another shard than the manifest says",
        got=got,
        expected="its features and labels, a row a sample",
        todo=f"extract again with {option('overwrite', True)}",
    )
