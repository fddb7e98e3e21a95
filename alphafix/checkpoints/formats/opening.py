"""Opening a model file of any format, told by its content."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from alphafix.checkpoints.formats.format import Checkpoint, Format
from alphafix.checkpoints.formats.onnx_format import OnnxFormat
from alphafix.checkpoints.formats.safetensors_format import SafetensorsFormat
from alphafix.checkpoints.formats.sections import without_wrapper
from alphafix.checkpoints.formats.sharded_format import ShardedFormat
from alphafix.checkpoints.formats.torch_format import TorchFormat
from alphafix.checkpoints.formats.torchscript_format import TorchScriptFormat
from alphafix.errors import FileFormatError, InputError
from alphafix.files import sha256_file

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

# The formats, asked in this order whether a file is theirs: TorchScript archives look like those
# of torch, but for one entry.
FORMATS: tuple[Format, ...] = (
    ShardedFormat(),
    OnnxFormat(),
    SafetensorsFormat(),
    TorchScriptFormat(),
    TorchFormat(),
)

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
TORCH = "pytorch_model.bin"

# Archives of torch.export, which the reader of models runs and nothing here opens.
EXPORT = ".pt2"

# What makes a folder's model another one than its weights say: transformers adds them.
ADAPTER = "adapter_config.json"


def find_file(path: Path) -> Path:
    """Return the model file that ``path`` names, or that transformers loads of the folder ``path``.

    Raises:
        InputError: If there is none, or it is not certain which one counts.
    """
    if path.is_dir():
        return _file_in(path)
    if not path.is_file():
        raise InputError(
            f"{path} is not there",
            expected="a model file: .safetensors, .safetensors.index.json, .pth, .pt, .bin, "
            ".ckpt or .onnx",
            todo="check the path",
        )
    return path


def _file_in(folder: Path) -> Path:
    there = [name for name in (SINGLE, INDEX, TORCH) if (folder / name).is_file()]
    if (folder / ADAPTER).is_file():
        raise InputError(
            f"{folder} holds an adapter beside a model",
            got=ADAPTER,
            expected="one model, whose rows can be changed",
            todo="merge them first: model.merge_and_unload().save_pretrained(DIR)",
        )
    if not there:
        raise InputError(
            f"{folder} is a folder without {SINGLE}, {INDEX} or {TORCH}",
            expected="a model file, or a folder that transformers saved",
            todo="name the file itself",
        )
    if {SINGLE, INDEX} <= set(there):
        raise InputError(
            f"{folder} holds two models",
            got=f"{SINGLE} and {INDEX} (of which transformers loads the first)",
            expected="one of them",
            todo="name the file that counts, or remove the other one",
        )
    if len(there) > 1:
        logger.warning(
            "%s: %s is used, as by transformers; %s stays as it is", folder, there[0], there[1]
        )
    return folder / there[0]


# Of a zip archive's first entry: the fixed part of its header, and as much of a name as is read.
_LOCAL_HEADER, _NAME = 30, 256


def _begins_with_array(front: bytes) -> bool:
    name = front[_LOCAL_HEADER:][: int.from_bytes(front[26:28], "little")]
    return front.startswith(b"PK\x03\x04") and name.endswith(b".npy")


def format_of(path: Path) -> Format:
    """Tell a file's format.

    Raises:
        InputError: If it is a program of torch.export, of which no tensor can be changed, or holds
            arrays of NumPy.
        FileFormatError: If it is none of `FORMATS`.
    """
    if path.suffix == EXPORT:
        raise InputError(
            f"{path} is a program that torch.export saved, which features can be extracted with "
            "but whose rows cannot be changed",
            got=f"a {EXPORT} file",
            expected="the weights that it was exported from (safetensors, torch), or an export as "
            "ONNX or TorchScript",
            todo="patch the weights, and export the model again",
        )
    with path.open("rb") as file:
        front = file.read(9)
        if _begins_with_array(front + file.read(_LOCAL_HEADER + _NAME)):
            raise InputError(
                f"{path} holds NumPy arrays and is no model file",
                got="an archive of .npy files (.npz)",
                expected="safetensors, sharded safetensors (its index), torch, TorchScript or ONNX",
                # Its own copy of each, in rows: the library writes columns as if they were rows.
                todo="for a head: safetensors.numpy.save_file({name: array.copy() for name, array "
                "in numpy.load('head.npz').items()}, 'head.safetensors') writes a file that can "
                "be patched",
            )
    for known in FORMATS:
        if known.detect(path, front):
            return known
    raise FileFormatError(
        f"{path} is no model file of a known format",
        got=f"a file that begins with {front!r}",
        expected="safetensors, sharded safetensors (its index), torch, TorchScript or ONNX",
        todo="save the weights with safetensors.torch.save_file(model.state_dict(), FILE)",
    )


def files_of(path: Path) -> tuple[Path, ...]:
    """All files of the model that ``path`` names (see `open_checkpoint` for what it raises)."""
    path = find_file(path)
    return format_of(path).files(path)


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
    return format_of(path).open(path, section=section)


def sha256_of(path: Path) -> str:
    """Hash of a model file, or of all files that it consists of (see `Checkpoint.sha256`).

    Raises:
        InputError: If there is no such file.
        FileFormatError: If it is damaged, or of no known format.
    """
    path = find_file(path)
    return sha256_file(path) if path.suffix == EXPORT else open_checkpoint(path).sha256()


def load_state_dict(path: Path, *, section: str = "") -> dict[str, torch.Tensor]:
    """Load the weights of a model file under the names that the bare model has.

    Torch files may be nested (see `alphafix.checkpoints.formats.sections`); prefixes
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
    tensors = format_of(path).state_dict(path, section=section)
    names = without_wrapper(list(tensors))
    return {names[name]: tensor for name, tensor in tensors.items()}
