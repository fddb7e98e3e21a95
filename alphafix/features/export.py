"""Features for other tools: .npz, .npy and Parquet."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from alphafix.errors import InputError
from alphafix.features.exchange import ids_beside, import_parquet, labels_beside
from alphafix.features.features import Features
from alphafix.files import atomic_path, refuse_existing
from alphafix.progress import Advance
from alphafix.values.arrays import Array


def write_features(path: Path, store: Features, *, overwrite: bool, advance: Advance) -> None:
    """Write a store as .npz, .npy or Parquet, as `read_features` reads it.

    .npy and Parquet are written in pieces; .npz holds its N x D features (float32) in memory.

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
    writers[path.suffix](path, store, overwrite, advance)


def _write_npz(path: Path, store: Features, overwrite: bool, advance: Advance) -> None:
    with atomic_path(path, overwrite=overwrite) as temporary, temporary.open("wb") as file:
        np.savez(file, features=store.array(), labels=store.labels, ids=_text(store.ids))
    advance(len(store))


def _write_npy(path: Path, store: Features, overwrite: bool, advance: Advance) -> None:
    labels = labels_beside(path)
    ids = ids_beside(path)
    for other in (path, labels, ids):
        refuse_existing(other, overwrite=overwrite)
    with atomic_path(labels, overwrite=overwrite) as temporary, temporary.open("wb") as file:
        np.save(file, store.labels)
    with atomic_path(ids, overwrite=overwrite) as temporary, temporary.open("wb") as file:
        np.save(file, _text(store.ids))
    with atomic_path(path, overwrite=overwrite) as temporary, temporary.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (len(store), store.width)}
        np.lib.format.write_array_header_1_0(file, header)
        for _, chunk in store.chunks():
            file.write(chunk.astype("<f4").tobytes())
            advance(len(chunk))


def _write_parquet(path: Path, store: Features, overwrite: bool, advance: Advance) -> None:
    parquet = import_parquet()
    import pyarrow

    schema = pyarrow.schema(
        [
            ("id", pyarrow.string()),
            ("label", pyarrow.int64()),
            ("features", pyarrow.list_(pyarrow.float32(), store.width)),
        ]
    )
    with (
        atomic_path(path, overwrite=overwrite) as temporary,
        parquet.ParquetWriter(temporary, schema) as writer,
    ):
        for start, chunk in store.chunks():
            rows = slice(start, start + len(chunk))
            flat = pyarrow.array(chunk.reshape(-1))
            features = pyarrow.FixedSizeListArray.from_arrays(flat, store.width)
            columns = [pyarrow.array(store.ids[rows]), pyarrow.array(store.labels[rows])]
            writer.write_table(pyarrow.Table.from_arrays([*columns, features], schema=schema))
            advance(len(chunk))


def _text(ids: tuple[str, ...]) -> Array:
    return np.array(ids, dtype=str)
