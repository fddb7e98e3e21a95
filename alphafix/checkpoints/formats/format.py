"""What every format of model files can do, and the checkpoint that it gives."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from alphafix.checkpoints.formats.splices import Splice
from alphafix.checkpoints.formats.tensors import Tensor
from alphafix.errors import InputError, call, option
from alphafix.files import sha256_file

if TYPE_CHECKING:
    import torch

Splices = dict[Path, tuple[Splice, ...]]
"""What changes in each file of a checkpoint."""


class Format(ABC):
    """A format of model files.

    A new one is a module beside this one with a subclass, and an entry in the table
    `alphafix.checkpoints.formats.opening.FORMATS`; nothing else knows of formats.

    Attributes:
        name: What users see.
        companions: Files that readers of the format need beside it: they are copied along.
    """

    name: ClassVar[str]
    companions: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def detect(self, path: Path, front: bytes) -> bool:
        """Whether a file is of this format.

        Args:
            path: The file.
            front: Its first bytes.

        Raises:
            FileFormatError: If it has the name of this format, and the content of another.
        """

    @abstractmethod
    def open(self, path: Path, *, section: str = "", folder: Path | None = None) -> Checkpoint:
        """Read what a file holds and where, but no tensor.

        Args:
            path: The file.
            section: See `open_checkpoint`.
            folder: Where its other files are, for a draft without a name; by default beside it.

        Raises:
            FileFormatError: If it is damaged.
        """

    def files(self, path: Path) -> tuple[Path, ...]:
        """All files of the checkpoint that ``path`` names."""
        return (path,)

    def state_dict(self, path: Path, *, section: str = "") -> dict[str, torch.Tensor]:
        """Load the tensors by name, on the CPU (see `load_state_dict`).

        Raises:
            InputError: If the format gives no state dict.
            FileFormatError: If the file is damaged, would run code, or holds no state dict.
        """
        raise InputError(
            f"{path} gives no state dict",
            got=self.name,
            expected="a safetensors or torch file",
            todo="give the weights that the export was made from",
        )

    def seal(self, checkpoint: Checkpoint, splices: Splices, note: str | None) -> Splices:
        """Add to changed rows what else the format needs: a note in its metadata, checksums.

        Args:
            checkpoint: The file.
            splices: New rows, by file.
            note: How they were made, or None to leave the metadata alone.
        """
        return splices

    def renaming(self, checkpoint: Checkpoint, names: Mapping[str, str]) -> list[Splice]:
        """The splices of ``checkpoint.path`` that give its other files new names (old -> new).

        Raises:
            FileFormatError: If it is not clear what to change.
        """
        return []


@dataclass(frozen=True)
class Linear:
    """A linear layer that a graph names: what a file without module names knows instead.

    Attributes:
        weight: Name of its weight tensor.
        bias: Name of its bias tensor, or None.
        transposed: Whether the weight is stored as D x C.
        last: Whether nothing but element-wise operations stands between it and an output.
        features: Name of the value that it takes.
        result: Name of the value that it gives.
        factor: What it multiplies its weights by.
        bias_factor: What it multiplies its biases by.
    """

    weight: str
    bias: str | None
    transposed: bool
    last: bool
    features: str
    result: str
    factor: float = 1.0
    bias_factor: float = 1.0


@dataclass(frozen=True)
class Checkpoint:
    """What a model file holds.

    Attributes:
        path: The file that the user named.
        format: Its format.
        tensors: The model's tensors, in the order of the file.
        files: All files that it consists of.
        metadata: Its text metadata.
        section: The part of a torch file that the model's weights are in ("" for none).
        sections: All parts of it that hold weights, such as averaged ones beside the others.
        linears: The linear layers, for formats that hold a graph (ONNX); None for others.
        class_names: Class names in the order of the logits, by the entry that holds them.
    """

    path: Path
    format: Format
    tensors: tuple[Tensor, ...]
    files: tuple[Path, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    section: str = ""
    sections: tuple[str, ...] = ()
    linears: tuple[Linear, ...] | None = None
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def tensor(self, name: str) -> Tensor:
        """Return the tensor called ``name``.

        Raises:
            InputError: If there is none.
        """
        for tensor in self.tensors:
            if tensor.name == name:
                return tensor
        raise InputError(
            f"{self.path} has no tensor {name}",
            got=f"{len(self.tensors)} other tensors",
            expected=f"the tensor {name}, in which the head was found",
            todo="this is likely another model, or another export of it; give the file that "
            f"{call('extract')} read, or name the head with {option('head')} "
            f"(see {call('inspect')})",
        )

    def sha256(self) -> str:
        """Hash of the file; for several files, of the lines "hash  name" of all of them."""
        if len(self.files) == 1:
            return sha256_file(self.files[0])
        lines = [f"{sha256_file(file)}  {file.name}\n" for file in self.files]
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def free_key(metadata: Mapping[str, str], key: str) -> str:
    """``key``, with a number if an entry of that name is there already: it stays."""
    number, free = 1, key
    while free in metadata:
        number += 1
        free = f"{key}.{number}"
    return free
