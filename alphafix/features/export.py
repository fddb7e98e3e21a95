"""Features for other tools: .npz, .npy and Parquet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alphafix.errors import InputError
from alphafix.features.class_names import CLASS_NAMES, names_beside
from alphafix.features.exchange import ids_beside, import_parquet, labels_beside
from alphafix.features.features import Features
from alphafix.files import atomic_path, refuse_existing
from alphafix.progress import Advance
from alphafix.values.arrays import Array

Names = tuple[str, ...]


def write_features(
    path: Path, store: Features, names: Sequence[str], *, overwrite: bool, advance: Advance
) -> None:
    """Write a store and the names of its classes as .npz, .npy or Parquet.

    `alphafix.features.exchange.read_features` reads it. Parquet has a column ``class`` with the
    name of each sample's class (null for open-set samples). .npy and Parquet are written in
    pieces; .npz holds its N x D features (float32) in memory.

    Raises:
        TargetExistsError: If a file exists and ``overwrite`` is false.
        InputError: If the suffix is of no format that is written.
        MissingPackageError: If it is Parquet and pyarrow is not installed.
    """
    writers = {".npz": _write_npz, ".npy": _write_npy, ".parquet": _write_parquet}
    if path.suffix not in writers:
        raise InputError(
            f"{path} is of no format that features are exported to",
            got=path.suffix or "no suffix",
            expected=", ".join(writers),
            todo="choose another name; safetensors shards are in the run directory already",
        )
    writers[path.suffix](path, store, tuple(names), overwrite, advance)


def _write_npz(
    path: Path, store: Features, names: Names, overwrite: bool, advance: Advance
) -> None:
    arrays: dict[str, Any] = {
        "features": store.array(),
        "labels": store.labels,
        "ids": _text(store.ids),
        CLASS_NAMES: _text(names),
    }
    with atomic_path(path, overwrite=overwrite) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)
    advance(len(store))


def _write_npy(
    path: Path, store: Features, names: Names, overwrite: bool, advance: Advance
) -> None:
    beside = {
        labels_beside(path): store.labels,
        ids_beside(path): _text(store.ids),
        names_beside(path): _text(names),
    }
    for other in (path, *beside):
        refuse_existing(other, overwrite=overwrite)
    for other, array in beside.items():
        with atomic_path(other, overwrite=overwrite) as temporary, temporary.open("wb") as file:
            np.save(file, array)
    with atomic_path(path, overwrite=overwrite) as temporary, temporary.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (len(store), store.width)}
        np.lib.format.write_array_header_1_0(file, header)
        for _, chunk in store.chunks():
            file.write(chunk.astype("<f4").tobytes())
            advance(len(chunk))


def _write_parquet(
    path: Path, store: Features, names: Names, overwrite: bool, advance: Advance
) -> None:
    parquet = import_parquet()
    import pyarrow

    schema = pyarrow.schema(
        [
            ("id", pyarrow.string()),
            ("label", pyarrow.int64()),
            ("class", pyarrow.string()),
            ("features", pyarrow.list_(pyarrow.float32(), store.width)),
        ],
        metadata={CLASS_NAMES: json.dumps(names, ensure_ascii=False)},
    )
    with (
        atomic_path(path, overwrite=overwrite) as temporary,
        parquet.ParquetWriter(temporary, schema) as writer,
    ):
        for start, chunk in store.chunks():
            rows = slice(start, start + len(chunk))
            flat = pyarrow.array(chunk.reshape(-1))
            features = pyarrow.FixedSizeListArray.from_arrays(flat, store.width)
            labels = store.labels[rows]
            columns = [
                pyarrow.array(store.ids[rows]),
                pyarrow.array(labels),
                pyarrow.array([names[i] if i >= 0 else None for i in labels], pyarrow.string()),
            ]
            writer.write_table(pyarrow.Table.from_arrays([*columns, features], schema=schema))
            advance(len(chunk))


def _text(texts: Names) -> Array:
    return np.array(texts, dtype=str)
