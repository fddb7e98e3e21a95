"""TorchScript archives: parameters under ``data``, those of frozen models under ``constants``."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from alphafix.checkpoints.formats._archive import ARCHIVE
from alphafix.checkpoints.formats._skeleton import walk
from alphafix.checkpoints.formats.format import Checkpoint
from alphafix.checkpoints.formats.tensors import Tensor
from alphafix.checkpoints.formats.torch_format import TorchFormat, place_views, read_archived
from alphafix.errors import FileFormatError

if TYPE_CHECKING:
    import torch


class TorchScriptFormat(TorchFormat):
    """What `torch.jit.save` writes; none of its code is run to read where its tensors lie."""

    name = "torchscript"

    def detect(self, path: Path, front: bytes) -> bool:
        """Tell by an entry that only these archives have."""
        if not front.startswith(ARCHIVE):
            return False
        try:
            with zipfile.ZipFile(path) as archive:
                return any(name.endswith("/constants.pkl") for name in archive.namelist())
        except zipfile.BadZipFile:
            return False

    def open(self, path: Path, *, section: str = "", folder: Path | None = None) -> Checkpoint:
        """Read where the tensors lie, which must not be compressed."""
        try:
            tensors = (*_tensors(path, "data"), *_tensors(path, "constants"))
        except (zipfile.BadZipFile, pickle.UnpicklingError) as error:
            raise _not_whole(path, error) from error
        return Checkpoint(path, self, tensors, (path,))

    def state_dict(self, path: Path, *, section: str = "") -> dict[str, torch.Tensor]:
        """Load the module, and give its state."""
        import torch

        try:
            module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
            return dict(module.state_dict())
        except RuntimeError as error:
            raise _not_whole(path, str(error).splitlines()[0]) from error


def _tensors(path: Path, part: str) -> tuple[Tensor, ...]:
    found = read_archived(path, part)
    if found is None:
        return ()
    read, offsets = found
    return place_views(path, list(walk(read.data, "" if part == "data" else part)), offsets)


def _not_whole(path: Path, got: object) -> FileFormatError:
    return FileFormatError(
        f"{path} is no whole TorchScript archive",
        got=got,
        expected="an archive that torch.jit.save wrote",
        todo="copy the file again, or export the model again",
    )
