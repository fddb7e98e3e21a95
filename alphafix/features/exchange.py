"""Features from the files of other tools: .npz, .npy, .safetensors and Parquet."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from alphafix.errors import FileFormatError, InputError, MissingPackageError
from alphafix.features.features import FeatureArrays
from alphafix.features.shards import require_unique
from alphafix.files import open_safetensors
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
    arrays = _read_arrays(path)
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
    names = range(len(labels)) if ids is None else ids.tolist()
    found = FeatureArrays.read(
        features.astype(np.float32, copy=False),
        labels.astype(np.int64, copy=False),
        tuple(name.decode() if isinstance(name, bytes) else str(name) for name in names),
    )
    require_unique(found.ids, str(path))
    return found


def _read_arrays(path: Path) -> Mapping[str, Array]:
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
        return _read_safetensors(path)
    if path.suffix == ".parquet":
        return _read_parquet(path)
    try:
        return _read_npy(path) if path.suffix == ".npy" else _read_npz(path)
    except (ValueError, OSError, EOFError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise FileFormatError(
            f"{path} is damaged or not a NumPy file",
            got=str(error),
            expected="plain arrays, no pickled objects",
            todo="save it again with np.save or np.savez",
        ) from error


def _read_npz(path: Path) -> Mapping[str, Array]:
    # Opened here, because NumPy forgets to close what begins like an archive and is none.
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


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
        "features": _array(path),
        "labels": _array(labels),
    }
    ids = ids_beside(path)
    if ids.is_file():
        arrays["ids"] = _array(ids)
    return arrays


def _array(path: Path) -> Array:
    with path.open("rb") as opened:
        found: Array = np.load(opened, allow_pickle=False)
    return found


def labels_beside(path: Path) -> Path:
    """Where the labels of the .npy file ``path`` belong."""
    stem = path.stem
    name = stem.replace("features", "labels") if "features" in stem else f"{stem}_labels"
    return path.with_name(f"{name}.npy")


def ids_beside(path: Path) -> Path:
    """Where the sample ids of the .npy file ``path`` belong."""
    labels = labels_beside(path)
    return labels.with_name(labels.name.replace("labels", "ids"))


def _read_safetensors(path: Path) -> Mapping[str, Array]:
    arrays: dict[str, Array] = {}
    with open_safetensors(path) as file:  # torch, because NumPy has no bfloat16
        for name in file.keys():  # noqa: SIM118
            tensor = file.get_tensor(name)
            arrays[name] = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    for prefix in [name.removesuffix("id_bytes") for name in arrays if name.endswith("id_bytes")]:
        texts = Texts(arrays[f"{prefix}id_bytes"].tobytes(), arrays[f"{prefix}id_ends"])
        arrays[f"{prefix}ids"] = np.array(list(texts), dtype=str)
    return arrays


def _read_parquet(path: Path) -> Mapping[str, Array]:
    parquet = import_parquet()
    import pyarrow

    try:
        table = parquet.read_table(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise FileFormatError(
            f"{path} is damaged or not a Parquet file", got=str(error), todo="make it again"
        ) from error
    arrays: dict[str, Array] = {}
    for column, name in (("features", "features"), ("label", "labels"), ("id", "ids")):
        if column in table.column_names:
            values = table.column(column).combine_chunks()
            if values.null_count:
                raise _no_rows(path, f"empty cells in {column}")
            arrays[name] = _matrix(path, values) if name == "features" else _column(values)
    return arrays


def _no_rows(path: Path, got: str) -> FileFormatError:
    return FileFormatError(
        f"{path} holds no rows of features",
        got=got,
        expected="features (lists of one length), label and id, none of them empty",
        todo="make it again",
    )


def _matrix(path: Path, values: Any) -> Array:
    flat = values.flatten()
    if flat.null_count:
        raise _no_rows(path, "lists with empty cells")
    lengths = values.value_lengths().unique().to_pylist()
    if len(lengths) > 1:
        raise _no_rows(path, f"lists of {len(lengths)} lengths")
    return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(len(values), -1)


def _column(values: Any) -> Array:
    return np.asarray(values.to_pylist())


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
    if labels.dtype.kind not in "iu":
        raise FileFormatError(
            f"the labels of {path} are no class ids",
            got=f"dtype {labels.dtype}",
            expected="integers from 0 to C-1, in the order of the head's rows",
        )
    if features.dtype.kind != "f":
        raise FileFormatError(
            f"the features of {path} are no floating-point numbers", got=f"dtype {features.dtype}"
        )
    if ids is not None and len(ids) != len(labels):
        raise FileFormatError(
            f"ids and labels of {path} differ in number",
            got=f"{len(ids)} ids, {len(labels)} labels",
        )
