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
from alphafix.progress import Advance
from alphafix.values.arrays import Array

Names = tuple[str, ...]


def exported_files(path: Path) -> list[Path]:
    """The files that an export to ``path`` is: itself, and for .npy those beside it, before it.

    Raises:
        InputError: If the suffix is of no format that is written.
        MissingPackageError: If it is Parquet and pyarrow is not installed.
    """
    if path.suffix not in _WRITERS:
        raise InputError(
            f"{path} is of no format that features are exported to",
            got=path.suffix or "no suffix",
            expected=", ".join(_WRITERS),
            todo="choose another name; safetensors shards are in the run directory already",
        )
    if path.suffix == ".parquet":
        import_parquet()
    beside = [labels_beside(path), ids_beside(path), names_beside(path)]
    return [*(beside if path.suffix == ".npy" else ()), path]


def write_features(
    drafts: Sequence[Path], suffix: str, store: Features, names: Sequence[str], *, advance: Advance
) -> None:
    """Write a store and the names of its classes as .npz, .npy or Parquet.

    `alphafix.features.exchange.read_features` reads it. Parquet has a column ``class`` with the
    name of each sample's class (null for open-set samples). .npy and Parquet are written in
    pieces; .npz holds its N x D features (float32) in memory.

    Args:
        drafts: Where to write, in the order of `exported_files`.
        suffix: Of the format.
        store: N x D features.
        names: C class names.
        advance: Told of samples.
    """
    _WRITERS[suffix](drafts, store, tuple(names), advance)


def _write_npz(drafts: Sequence[Path], store: Features, names: Names, advance: Advance) -> None:
    arrays: dict[str, Any] = {
        "features": store.array(),
        "labels": store.labels,
        "ids": _text(store.ids),
        CLASS_NAMES: _text(names),
    }
    with drafts[0].open("wb") as file:
        np.savez(file, **arrays)
    advance(len(store))


def _write_npy(drafts: Sequence[Path], store: Features, names: Names, advance: Advance) -> None:
    beside = (store.labels, _text(store.ids), _text(names))
    for draft, array in zip(drafts, beside, strict=False):
        with draft.open("wb") as file:
            np.save(file, array)
    with drafts[-1].open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (len(store), store.width)}
        np.lib.format.write_array_header_1_0(file, header)
        for _, chunk in store.chunks():
            file.write(chunk.astype("<f4").tobytes())
            advance(len(chunk))


def _write_parquet(drafts: Sequence[Path], store: Features, names: Names, advance: Advance) -> None:
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
    with parquet.ParquetWriter(drafts[0], schema) as writer:
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


_WRITERS = {".npz": _write_npz, ".npy": _write_npy, ".parquet": _write_parquet}


def _text(texts: Names) -> Array:
    return np.array(texts, dtype=str)
