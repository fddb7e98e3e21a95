"""Features from the files of other tools: .npz, .npy, .safetensors and Parquet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from alphafix.errors import FileFormatError, InputError, MissingPackageError
from alphafix.features.features import CHUNK_ROWS, FeatureArrays
from alphafix.features.shards import require_unique
from alphafix.files import open_safetensors
from alphafix.reading.boundary import reading
from alphafix.reading.limits import MOST_ELEMENTS, most_unpacked
from alphafix.reading.numpy_files import read_npy, read_npz
from alphafix.reading.parquet_file import measure
from alphafix.values.arrays import Array
from alphafix.values.texts import Texts

SUFFIXES = (".npz", ".npy", ".safetensors", ".parquet")


def read_features(path: Path, *, split: str, experts: bool = False) -> FeatureArrays:
    """Read the features of one split.

    .npz and .safetensors hold ``features``, ``labels`` and, if there are any, ``ids``; or the
    same with the split's name before them (``train_features``), so that one file can hold all
    splits. A .npy file holds the features, and ``NAME_labels.npy`` beside it the labels (for
    ``features.npy`` also ``labels.npy``). Parquet has the columns ``features`` (lists),
    ``label`` and ``id``.

    Args:
        path: The file.
        split: Name of the split.
        experts: Whether features may be N x E x D_e, of E experts; they come side by side.

    Raises:
        InputError: If the file is of another kind, lacks an array of this split, or has an id
            twice.
        FileFormatError: If it is damaged, or the arrays do not fit together.
        MissingPackageError: If it is Parquet and pyarrow is not installed.
    """
    arrays = _read_arrays(path, split)
    prefix = f"{split}_" if f"{split}_features" in arrays else ""
    for name in ("features", "labels"):
        if prefix + name not in arrays:
            raise InputError(
                f"{path} holds no {name} of the split {split}",
                got=f"arrays {', '.join(sorted(arrays)) or 'none'}",
                expected=f'"{name}" or "{split}_{name}"',
                todo="save the arrays under these names",
            )
    features = np.asarray(arrays[prefix + "features"])
    labels = np.asarray(arrays[prefix + "labels"])
    ids = arrays.get(prefix + "ids")
    if experts and features.ndim == 3:
        features = features.reshape(len(features), -1)
    _check(path, features, labels, ids)
    with np.errstate(over="ignore"):  # what is too large for float32 is found as not finite
        rows = features.astype(np.float32, copy=False)
    names = _ids(path, ids, len(rows))
    require_unique(names, str(path))
    return FeatureArrays.read(rows, labels.astype(np.int64, copy=False), names)


def _ids(path: Path, ids: Array | None, count: int) -> tuple[str, ...]:
    if ids is None:
        return tuple(map(str, range(count)))
    with reading(path, "a file of ids that are texts"):
        found = [n.decode() if isinstance(n, bytes) else str(n) for n in ids.tolist()]
        for name in found:
            name.encode("utf-8", "surrogateescape")  # as they will be stored
    return tuple(found)


def _read_arrays(path: Path, split: str) -> Mapping[str, Array]:
    if path.suffix not in SUFFIXES:
        raise InputError(
            f"{path} is not a file of features",
            got=path.suffix or "no suffix",
            expected=", ".join(SUFFIXES),
            todo="save the features in one of these formats",
        )
    if not path.is_file():
        raise InputError(f"{path} is not there", expected="a file of features")
    if path.suffix == ".safetensors":
        return _read_safetensors(path, split)
    if path.suffix == ".parquet":
        return _read_parquet(path)
    if path.suffix == ".npy":
        return _read_npy(path)
    return read_npz(path, _names(split, "features", "labels", "ids"))


def _names(split: str, *names: str) -> list[str]:
    return [prefix + name for prefix in ("", f"{split}_") for name in names]


def _read_npy(path: Path) -> Mapping[str, Array]:
    labels = labels_beside(path)
    if not labels.is_file():
        raise InputError(
            f"the labels of {path} are not there",
            got=f"no {labels.name}",
            expected=f"{labels.name} beside it",
            todo="save the labels there with np.save",
        )
    arrays = {
        "features": read_npy(path),
        "labels": read_npy(labels),
    }
    ids = ids_beside(path)
    if ids.is_file():
        arrays["ids"] = read_npy(ids)
    return arrays


def labels_beside(path: Path) -> Path:
    """Where the labels of the .npy file ``path`` belong."""
    stem = path.stem
    name = stem.replace("features", "labels") if "features" in stem else f"{stem}_labels"
    return path.with_name(f"{name}.npy")


def ids_beside(path: Path) -> Path:
    """Where the sample ids of the .npy file ``path`` belong."""
    labels = labels_beside(path)
    return labels.with_name(labels.name.replace("labels", "ids"))


def _read_safetensors(path: Path, split: str) -> Mapping[str, Array]:
    arrays: dict[str, Array] = {}
    wanted = set(_names(split, "features", "labels", "id_bytes", "id_ends"))
    with (
        open_safetensors(path) as file,  # torch, because NumPy has no bfloat16
        reading(path, "a safetensors file of arrays that NumPy has"),
    ):
        for name in wanted.intersection(file.keys()):
            tensor = file.get_tensor(name)
            arrays[name] = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        for prefix in ("", f"{split}_"):
            if f"{prefix}id_bytes" in arrays:
                texts = Texts.read(arrays[f"{prefix}id_bytes"], arrays[f"{prefix}id_ends"])
                arrays[f"{prefix}ids"] = np.array(list(texts), dtype=object)
    return arrays


def _read_parquet(path: Path) -> Mapping[str, Array]:
    parquet = import_parquet()
    columns = {"features": "features", "label": "labels", "id": "ids"}
    with reading(path, "a Parquet file of features (lists of one length), label and id"):
        most = most_unpacked(path.stat().st_size)
        found = measure(path, columns, most)
        _require_size(path, found.size)
        with parquet.ParquetFile(path) as file:
            _check_counts(path, file.metadata)
            present = [name for name in columns if name in file.schema_arrow.names]
            # Each row of a piece may repeat the longest text.
            rows = min(CHUNK_ROWS, max(1, most // found.page)) if found.page else CHUNK_ROWS
            table = _read_batches(path, file, present, rows)
        arrays = {columns[name]: table.column(name).combine_chunks() for name in present}
        if any(values.null_count for values in arrays.values()):
            raise ValueError("empty cells")
        return {
            name: _matrix(values) if name == "features" else _column(values)
            for name, values in arrays.items()
        }


def _check_counts(path: Path, metadata: Any) -> None:
    """Hold the sizes that a Parquet file says against its own.

    One value repeated takes hardly a byte, however often; features are hardly packed at all. (What
    it says of columns is left alone: pyarrow ends the process where that is damaged.)
    """
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    sizes = [group.total_byte_size for group in groups]
    _require_size(path, max(8 * metadata.num_rows, sum(sizes)))
    if metadata.num_rows < 0 or any(size < 0 for size in sizes):
        raise ValueError("sizes below zero")


def _read_batches(path: Path, file: Any, names: list[str], rows: int) -> Any:
    """Read columns piece by piece, to stop where they are more than the file said."""
    import pyarrow

    batches, unpacked = [], 0
    for batch in file.iter_batches(batch_size=rows, columns=names, use_threads=False):
        batches.append(batch)
        unpacked += batch.nbytes
        _require_size(path, unpacked)
    if not batches:
        raise ValueError("no rows")
    return pyarrow.Table.from_batches(batches)


def _require_size(path: Path, unpacked: int) -> None:
    most = most_unpacked(path.stat().st_size)
    if unpacked > most:
        raise ValueError(f"it unpacks to {unpacked:,} bytes, at most {most:,} are read")


def _matrix(values: Any) -> Array:
    flat = values.flatten()
    if flat.null_count or len(flat) % max(1, len(values)):
        raise ValueError("lists of features with empty cells or of several lengths")
    width = len(flat) // max(1, len(values))
    if any(length != width for length in values.value_lengths().unique().to_pylist()):
        raise ValueError("lists of features of several lengths")
    return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(len(values), width)


def _column(values: Any) -> Array:
    found = values.to_numpy(zero_copy_only=False)
    return np.asarray(found)


def import_parquet() -> Any:
    """Return pyarrow.parquet.

    Raises:
        MissingPackageError: If pyarrow is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingPackageError(
            "reading or writing Parquet needs pyarrow, which is not installed",
            todo="pip install 'alphafix[parquet]'",
        ) from error
    return pyarrow.parquet


def _check(
    path: Path,
    features: Array,
    labels: Array,
    ids: Array | None,
) -> None:
    if features.ndim != 2 or labels.ndim != 1 or len(features) != len(labels):
        raise FileFormatError(
            f"features and labels of {path} do not fit together",
            got=f"features {features.shape}, labels {labels.shape}",
            expected="features N x D and labels N",
            todo="save one row of features and one label a sample",
        )
    if labels.dtype.kind not in "iu" or labels.max(initial=0) > MOST_ELEMENTS:
        raise FileFormatError(
            f"the labels of {path} are no class ids",
            got=f"dtype {labels.dtype}",
            expected="integers from 0 to C-1, in the order of the head's rows",
            todo="save each label's place in the list of classes that the head was trained with "
            "(of scikit-learn: numpy.searchsorted(model.classes_, labels))",
        )
    if features.dtype.kind != "f":
        raise FileFormatError(
            f"the features of {path} are no floating-point numbers", got=f"dtype {features.dtype}"
        )
    if ids is not None and ids.shape != labels.shape:
        raise FileFormatError(
            f"ids and labels of {path} differ in number",
            got=f"ids {ids.shape}, labels {labels.shape}",
        )
