"""Single safetensors files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from alphafix.checkpoints.formats._archive import ARCHIVE, PICKLES
from alphafix.checkpoints.formats.format import Checkpoint, Format, Splices
from alphafix.checkpoints.formats.safetensors_header import read_header
from alphafix.checkpoints.formats.safetensors_metadata import metadata_splice
from alphafix.checkpoints.formats.splices import in_order
from alphafix.errors import FileFormatError
from alphafix.files import METADATA_KEY

if TYPE_CHECKING:
    import torch


class SafetensorsFormat(Format):
    """A header of JSON, then the tensors."""

    name = "safetensors"
    # What `from_pretrained` needs beside the weights.
    companions = ("config.json", "generation_config.json", "preprocessor_config.json")

    def detect(self, path: Path, front: bytes) -> bool:
        """Tell by the header; a damaged file by its name (reading it says how)."""
        if front[8:9] == b"{":
            return True
        if path.suffix == ".safetensors" and front.startswith((ARCHIVE, *PICKLES)):
            raise FileFormatError(
                f"{path} is a torch file under the name of a safetensors file",
                got="an archive or a pickle",
                expected="a header of JSON",
                todo=f"rename it to {path.stem}.pth",
            )
        return path.suffix == ".safetensors"

    def open(self, path: Path, *, section: str = "", folder: Path | None = None) -> Checkpoint:
        """Read the header; it must not break any rule of the format."""
        header = read_header(path)
        names = {tensor.name for tensor in header.tensors}
        # safetensors' save_model leaves shared tensors out and says in the metadata which one of
        # the others they are.
        left_out = [(k, v) for k, v in header.metadata.items() if v in names and k not in names]
        tensors = tuple(
            replace(tensor, users=tuple(k for k, v in left_out if v == tensor.name))
            for tensor in header.tensors
        )
        return Checkpoint(path, self, tensors, (path,), header.metadata)

    def state_dict(self, path: Path, *, section: str = "") -> dict[str, torch.Tensor]:
        """Load all tensors, memory-mapped."""
        from safetensors.torch import load_file

        checkpoint = self.open(path)  # checks the header, or the index and all headers
        tensors: dict[str, torch.Tensor] = {}
        for file in dict.fromkeys(tensor.file for tensor in checkpoint.tensors):
            tensors.update(load_file(file))
        return tensors

    def seal(self, checkpoint: Checkpoint, splices: Splices, note: str | None) -> Splices:
        """Add the note to the header of each file that changes."""
        if note is None:
            return splices
        return {
            file: in_order((metadata_splice(file, METADATA_KEY, note), *own))
            for file, own in splices.items()
        }
