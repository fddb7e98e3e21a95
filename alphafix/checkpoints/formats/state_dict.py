"""Model files as flat state dicts, for strict loading."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alphafix.checkpoints.formats.opening import file_format, find_file
from alphafix.checkpoints.head.sections import find_section, without_wrapper
from alphafix.errors import FileFormatError, InputError

if TYPE_CHECKING:
    import torch


def load_state_dict(path: Path, *, section: str = "") -> dict[str, torch.Tensor]:
    """Load the weights of a model file under the names that the bare model has.

    Torch files may be nested under ``state_dict``, ``model`` or ``state_dict_ema``; prefixes
    of wrappers that all names share (``module.``) are dropped. Tensors of safetensors and
    torch files are memory-mapped, on the CPU.

    Args:
        path: A .safetensors file, the index of a sharded model, a torch file or a TorchScript
            archive, or a folder that transformers saved.
        section: See `open_checkpoint`.

    Raises:
        InputError: If there is no such file, or its format gives no state dict (ONNX).
        FileFormatError: If it is damaged, would run code, or holds no state dict.
    """
    path = find_file(path)
    kind = file_format(path)
    if kind in ("safetensors", "sharded"):
        tensors = _load_safetensors(path)
    elif kind == "torch":
        tensors = _load_torch(path, section)
    elif kind == "torchscript":
        tensors = _load_torchscript(path)
    else:
        raise InputError(
            f"{path} gives no state dict",
            got=kind,
            expected="a safetensors or torch file",
            todo="give the weights that the export was made from",
        )
    names = without_wrapper(list(tensors))
    return {names[name]: tensor for name, tensor in tensors.items()}


def _load_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    from alphafix.checkpoints.formats.opening import open_checkpoint

    checkpoint = open_checkpoint(path)  # checks the header, or the index and all headers
    tensors: dict[str, torch.Tensor] = {}
    for file in dict.fromkeys(tensor.file for tensor in checkpoint.tensors):
        tensors.update(load_file(file))
    return tensors


def _load_torch(path: Path, section: str) -> dict[str, torch.Tensor]:
    import torch

    from alphafix.checkpoints.formats.torch_format import load_torch

    data = load_torch(path)
    if isinstance(data, Mapping):
        chosen = find_section(data, wanted=section)
        data = data[chosen] if chosen else data
    flat: dict[str, Any] = dict(data) if isinstance(data, Mapping) else {}
    others = [name for name, value in flat.items() if not isinstance(value, torch.Tensor)]
    if not flat or others:
        raise FileFormatError(
            f"{path} holds no state dict",
            got=f"{others[0]!r}, a {type(flat[others[0]]).__name__}" if others else type(data),
            expected="tensors by name, plain or under state_dict, model or state_dict_ema",
            todo="save the weights alone: torch.save(model.state_dict(), FILE)",
        )
    return flat


def _load_torchscript(path: Path) -> dict[str, torch.Tensor]:
    import torch

    try:
        module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
        return dict(module.state_dict())
    except RuntimeError as error:
        raise FileFormatError(
            f"{path} is no whole TorchScript archive",
            got=str(error).splitlines()[0],
            expected="an archive that torch.jit.save wrote",
            todo="copy the file again, or export the model again",
        ) from error
