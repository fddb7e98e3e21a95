"""Class names in files of features: those that leave a run can come back, and are compared."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alphafix.errors import FileFormatError, InputError, option
from alphafix.features.exchange import import_parquet, labels_beside

ARRAYS = ("features", "labels", "ids", "id_bytes", "id_ends")
"""Names of the arrays of one split in a file, alone or with the split's name before them."""

CLASS_NAMES = "class_names"
"""Name under which a file holds C class names in the order of the labels."""


def names_beside(path: Path) -> Path:
    """Where the class names of the .npy file ``path`` belong."""
    labels = labels_beside(path)
    return labels.with_name(labels.name.replace("labels", CLASS_NAMES))


def read_class_names(path: Path) -> tuple[str, ...] | None:
    """The class names that a file of features holds, or None.

    Raises:
        FileFormatError: If they are damaged.
    """
    try:
        found = _read(path)
    except (ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise FileFormatError(
            f"the class names of {path} cannot be read",
            got=str(error),
            expected="C texts in the order of the labels",
            todo="make the file again",
        ) from error
    return None if found is None else tuple(map(str, found))


def _read(path: Path) -> Sequence[object] | None:
    if path.suffix == ".parquet":
        metadata = import_parquet().read_schema(path).metadata or {}
        text = metadata.get(CLASS_NAMES.encode())
        return None if text is None else list(json.loads(text))
    if path.suffix == ".npy":
        beside = names_beside(path)
        return list(np.load(beside, allow_pickle=False)) if beside.is_file() else None
    if path.suffix == ".npz":
        # Opened here, because NumPy forgets to close what is no archive after all.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return list(arrays[CLASS_NAMES]) if CLASS_NAMES in arrays.files else None
    return None


def require_names(path: Path, names: Sequence[str]) -> None:
    """Check that a file of features has no other class names than these.

    Raises:
        InputError: If one differs; the first is named.
        FileFormatError: If they are damaged.
    """
    found = read_class_names(path)
    if found is None or found == tuple(names):
        return
    pairs = enumerate(zip(found, names, strict=False))
    at = next((i for i, (a, b) in pairs if a != b), min(len(found), len(names)))
    theirs, ours = (repr(many[at]) if at < len(many) else "none" for many in (found, names))
    raise InputError(
        f"{path} is of other classes, or of another order of them",
        got=f"class {at} is {theirs}, of {len(found)} classes",
        expected=f"class {at} is {ours}, of {len(names)} classes as the run has them",
        todo=f"name the run that they belong to with {option('run')}",
    )
