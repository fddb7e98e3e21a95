"""TorchScript archives: parameters under ``data``, those of frozen models under ``constants``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alphafix.checkpoints.formats._archive import ARCHIVE
from alphafix.checkpoints.formats._skeleton import walk
from alphafix.checkpoints.formats.format import Checkpoint
from alphafix.checkpoints.formats.tensors import Tensor
from alphafix.checkpoints.formats.torch_format import TorchFormat, place_views, read_archived
from alphafix.errors import FileFormatError
from alphafix.reading.boundary import reading
from alphafix.reading.zips import check_zip

if TYPE_CHECKING:
    import torch

_WHOLE = "an archive that torch.jit.save wrote"


class TorchScriptFormat(TorchFormat):
    """What `torch.jit.save` writes; none of its code is run to read where its tensors lie."""

    name = "torchscript"

    def detect(self, path: Path, front: bytes) -> bool:
        """Tell by an entry that only these archives have."""
        if not front.startswith(ARCHIVE):
            return False
        try:
            members = check_zip(path, _WHOLE, packed=True)
        except FileFormatError:
            return False
        return any(member.filename.endswith("/constants.pkl") for member in members)

    def open(self, path: Path, *, section: str = "", folder: Path | None = None) -> Checkpoint:
        """Read where the tensors lie, which must not be compressed."""
        with reading(path, _WHOLE, todo="copy the file again, or export the model again"):
            check_zip(path, _WHOLE, packed=True)
            tensors = (*_tensors(path, "data"), *_tensors(path, "constants"))
        return Checkpoint(path, self, tensors, (path,))

    def state_dict(self, path: Path, *, section: str = "") -> dict[str, torch.Tensor]:
        """Load the module, and give its state."""
        import torch

        self.open(path)
        with reading(path, _WHOLE, todo="copy the file again, or export the model again"):
            module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
            return dict(module.state_dict())


def _tensors(path: Path, part: str) -> tuple[Tensor, ...]:
    found = read_archived(path, part)
    if found is None:
        return ()
    read, places = found
    return place_views(path, list(walk(read.data, "" if part == "data" else part)), places)
