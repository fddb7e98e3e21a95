"""TorchScript archives: parameters under ``data``, those of frozen models under ``constants``."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

from alphafix.checkpoints.formats.archive import is_archive
from alphafix.checkpoints.formats.skeleton import read_skeleton, walk
from alphafix.checkpoints.formats.tensors import Checkpoint, Tensor
from alphafix.checkpoints.formats.torch_format import place_views, storage_offsets
from alphafix.errors import FileFormatError


def is_torchscript(path: Path) -> bool:
    """Whether a file is an archive that `torch.jit.save` wrote."""
    if not is_archive(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def open_torchscript(path: Path) -> Checkpoint:
    """Read where the tensors of a TorchScript archive lie; none of its code is run.

    Raises:
        FileFormatError: If the archive is damaged or its tensors are compressed.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            tensors = (*_tensors(path, archive, "data"), *_tensors(path, archive, "constants"))
    except (zipfile.BadZipFile, pickle.UnpicklingError) as error:
        raise FileFormatError(
            f"{path} is no whole TorchScript archive",
            got=error,
            expected="an archive that torch.jit.save wrote",
            todo="copy the file again, or export the model again",
        ) from error
    return Checkpoint(path, "torchscript", tensors, (path,))


def _tensors(path: Path, archive: zipfile.ZipFile, part: str) -> tuple[Tensor, ...]:
    name = next((n for n in archive.namelist() if n.endswith(f"/{part}.pkl")), None)
    if name is None:
        return ()
    with archive.open(name) as file:
        views = list(walk(read_skeleton(file), "" if part == "data" else part))
    offsets = storage_offsets(path, name.removesuffix(".pkl") + "/")
    return place_views(path, views, offsets)
