"""Opening a model file of any format, told by its content."""

from __future__ import annotations

from pathlib import Path

from alphafix.checkpoints.formats.tensors import Checkpoint
from alphafix.errors import FileFormatError, InputError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"


def find_file(path: Path) -> Path:
    """Return the model file that ``path`` names, or that is in the folder ``path``.

    Raises:
        InputError: If there is none.
    """
    if path.is_dir():
        for name in (INDEX, SINGLE):
            if (path / name).is_file():
                return path / name
        raise InputError(
            f"{path} is a folder without {INDEX} or {SINGLE}",
            expected="a model file, or a folder that transformers saved",
            todo="name the file itself",
        )
    if not path.is_file():
        raise InputError(
            f"{path} is not there",
            expected="a model file: .safetensors, .safetensors.index.json, .pth, .pt, .bin, "
            ".ckpt or .onnx",
            todo="check the path",
        )
    return path


def file_format(path: Path) -> str:
    """Tell a file's format: "safetensors", "sharded", "torch", "torchscript" or "onnx".

    Raises:
        FileFormatError: If it is none of them.
    """
    from alphafix.checkpoints.formats.archive import is_archive
    from alphafix.checkpoints.formats.torchscript import is_torchscript

    if path.suffix == ".json":
        return "sharded"
    if path.suffix == ".onnx":
        return "onnx"
    with path.open("rb") as file:
        front = file.read(9)
    if front[8:9] == b"{":
        return "safetensors"
    pickled = front[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
    if path.suffix == ".safetensors":
        if pickled or is_archive(path):
            raise FileFormatError(
                f"{path} is a torch file under the name of a safetensors file",
                got="an archive or a pickle",
                expected="a header of JSON",
                todo=f"rename it to {path.stem}.pth",
            )
        return "safetensors"  # damaged at its front; reading it says how
    if is_archive(path):
        return "torchscript" if is_torchscript(path) else "torch"
    if pickled:
        return "torch"
    raise FileFormatError(
        f"{path} is no model file of a known format",
        got=f"a file that begins with {front!r}",
        expected="safetensors, sharded safetensors (its index), torch, TorchScript or ONNX",
        todo="save the weights with safetensors.torch.save_file(model.state_dict(), FILE)",
    )


def open_checkpoint(path: Path, *, section: str = "") -> Checkpoint:
    """Read what a model file holds and where, without reading the tensors.

    Args:
        path: The file, the index of a sharded model, or a folder that holds one of them.
        section: For torch files: the part to use ("state_dict", "model", "state_dict_ema");
            the averaged weights by default where there are several, as in timm.

    Raises:
        InputError: If there is no such file.
        FileFormatError: If it is damaged, or of no known format.
    """
    path = find_file(path)
    return open_format(path, file_format(path), section=section)


def open_format(path: Path, kind: str, *, section: str = "") -> Checkpoint:
    """Open a file of a format that is known (see `open_checkpoint`)."""
    if kind == "safetensors":
        from alphafix.checkpoints.formats.safetensors_format import open_safetensors_file

        return open_safetensors_file(path)
    if kind == "sharded":
        from alphafix.checkpoints.formats.sharded import open_sharded

        return open_sharded(path)
    if kind == "torchscript":
        from alphafix.checkpoints.formats.torchscript import open_torchscript

        return open_torchscript(path)
    if kind == "onnx":
        from alphafix.checkpoints.formats.onnx_format import open_onnx

        return open_onnx(path)
    from alphafix.checkpoints.formats.torch_format import open_torch

    return open_torch(path, section=section)
