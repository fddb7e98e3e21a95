"""One shard of a feature store: checked, written whole, read back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from alphafix.errors import InputError, counted, option, some
from alphafix.files import atomic_path, open_safetensors, sha256_file
from alphafix.reading.boundary import reading
from alphafix.reading.schema import Count
from alphafix.values.arrays import Array, FloatArray, IntArray
from alphafix.values.texts import Texts

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "float16", "bfloat16")
FLOAT16_LARGEST = 65504.0

# A shard is held in memory until it is full, and is what a killed run loses at most.
SHARD_BYTES = 64 << 20


@dataclass(frozen=True)
class Shard:
    """One file of a store.

    Attributes:
        file: Its name in the store's folder.
        samples: Its number of rows.
        sha256: Hash of its bytes.
    """

    file: str
    samples: Count
    sha256: str


def check_rows(
    features: FloatArray, labels: IntArray, ids: Sequence[str], *, num_classes: int, dtype: str
) -> None:
    """Check n x D features with n labels and ids before they are stored.

    Raises:
        InputError: If the numbers differ, a label is outside of -1..C-1, or a feature is not
            finite or too large for ``dtype``.
    """
    if not len(features) == len(labels) == len(ids):
        raise InputError(
            "features, labels and ids differ in number",
            got=f"{counted(len(features), 'row')} of features, {counted(len(labels), 'label')}, "
            f"{counted(len(ids), 'id')}",
            expected="the same number of each",
        )
    wrong = (labels < -1) | (labels >= num_classes)
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"{counted(int(wrong.sum()), 'label')} out of range",
            got=f"label {labels[first]} of sample {ids[first]}",
            expected=f"0..{num_classes - 1}, or -1 for open-set samples",
            todo="check that the labels count from 0 and that the head has all classes",
        )
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        bad = _at(~finite, ids)
        raise InputError(
            f"{counted(len(bad), 'sample')} with features that are not finite (NaN or inf)",
            got=ids_of(bad),
            expected="finite features",
            todo=f"drop these samples, or extract them with {option('precision', 'fp32')}",
        )
    if dtype == "float16":
        large = (np.abs(features) > FLOAT16_LARGEST).any(axis=1)
        if large.any():
            raise InputError(
                f"{counted(int(large.sum()), 'sample')} with features too large for float16",
                got=f"up to {np.abs(features).max():.6g}: {ids_of(_at(large, ids))}",
                expected=f"at most {FLOAT16_LARGEST:g}",
                todo=f"store them with {option('store_dtype', 'bfloat16')} or float32",
            )


def _at(chosen: npt.ArrayLike, ids: Sequence[str]) -> list[str]:
    """The ids of the samples that are chosen."""
    return [ids[int(place)] for place in np.flatnonzero(chosen)]


def ids_of(ids: Sequence[object]) -> str:
    """The first of the ids of some samples, as such."""
    return f"{'id' if len(ids) == 1 else 'ids'} {some(ids)}"


def require_unique(ids: Sequence[str], of: str) -> None:
    """Check that no sample is there twice: it would be counted twice in all figures.

    Raises:
        InputError: If an id is.
    """
    if len(set(ids)) == len(ids):
        return
    twice = [name for name, count in Counter(ids).items() if count > 1]
    raise InputError(
        f"{counted(len(twice), 'sample id is', 'sample ids are')} in {of} more than once",
        got=some(twice),
        expected="an id of its own for each sample",
        todo="leave out what is there twice, or give each sample its own id",
    )


def rounded(features: FloatArray, dtype: str) -> torch.Tensor:
    """Features as they are stored; torch, not NumPy, because NumPy has no bfloat16."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(features)).to(getattr(torch, dtype))


def write_shard(
    path: Path, features: FloatArray, labels: IntArray, ids: Sequence[str], *, dtype: str
) -> tuple[Shard, FloatArray]:
    """Write one shard, whole or not at all.

    Returns:
        The shard, and its features as they were stored, rounded to ``dtype``: n x D float32.
    """
    import torch
    from safetensors.torch import save

    texts = Texts.pack(ids)
    stored = rounded(features, dtype)
    others: dict[str, Array] = {
        "labels": labels,
        "id_bytes": np.frombuffer(texts.data, dtype=np.uint8),
        "id_ends": texts.ends,
    }
    tensors = {name: torch.from_numpy(array.copy()) for name, array in others.items()}
    # Not by save_file, which makes a temporary file of its own that a kill would leave behind.
    data = save({**tensors, "features": stored})
    with atomic_path(path, overwrite=True) as temporary:
        temporary.write_bytes(data)
    shard = Shard(file=path.name, samples=len(labels), sha256=sha256_file(path))
    return shard, stored.float().numpy()


def read_shard(path: Path) -> tuple[FloatArray, IntArray]:
    """Read the features (n x D float32) and labels of a shard."""
    with open_safetensors(path) as file, reading(path, "a shard of features"):
        return file.get_tensor("features").float().numpy(), file.get_tensor("labels").numpy()
