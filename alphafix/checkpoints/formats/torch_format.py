"""Torch files (.pt, .pth, .bin, .ckpt): zip archives, and the older plain pickles."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from alphafix.checkpoints.formats._archive import (
    ARCHIVE,
    PICKLES,
    checksum_splices,
    entries,
    is_archive,
)
from alphafix.checkpoints.formats._skeleton import View, read_skeleton, walk
from alphafix.checkpoints.formats.format import Checkpoint, Format, Splices
from alphafix.checkpoints.formats.sections import find_section
from alphafix.checkpoints.formats.splices import in_order
from alphafix.checkpoints.formats.tensors import BITS, Tensor
from alphafix.errors import FileFormatError

if TYPE_CHECKING:
    import torch

# First object of a torch file that is no zip archive (torch/serialization.py).
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


def load_torch(path: Path) -> Any:
    """Load a torch file with weights_only, memory-mapped where the format allows it.

    Raises:
        FileFormatError: If it is damaged, or holds more than tensors and plain data.
    """
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive(path))
    except pickle.UnpicklingError as error:
        raise FileFormatError(
            f"{path} is refused: it holds more than tensors and plain data",
            got=_first_line(error),
            expected="a file that torch.load(..., weights_only=True) accepts; any other could "
            "run code of its maker's choice",
            todo="save the weights alone: torch.save(model.state_dict(), FILE)",
        ) from error
    except (RuntimeError, ValueError, EOFError, OSError, struct.error) as error:
        _refuse(path, "it is damaged", _first_line(error), "a whole torch file")


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "GLOBAL" in line or "Unsupported" in line]
    return (telling or lines or [type(error).__name__])[0][:300]


class TorchFormat(Format):
    """What `torch.save` writes, nested or not.

    Args:
        pass_over: Whether files may hold objects that weights_only refuses, like the
            configuration of a training script. They are passed over: nothing of them is made.
    """

    name = "torch"

    def __init__(self, *, pass_over: bool = False) -> None:
        self._pass_over = pass_over

    def detect(self, path: Path, front: bytes) -> bool:
        """Tell an archive or a pickle by its first bytes."""
        return front.startswith((ARCHIVE, *PICKLES))

    def open(self, path: Path, *, section: str = "", folder: Path | None = None) -> Checkpoint:
        """Read where the tensors lie.

        Raises:
            FileFormatError: If it is damaged, refused by weights_only, or holds no state dict.
        """
        if not self._pass_over:
            load_torch(path)  # the gate: what torch refuses, or cannot read, goes no further
        data, offsets = _read_zip(path) if is_archive(path) else _read_legacy(path)
        if not isinstance(data, dict):
            _refuse(path, "it holds no state dict", type(data).__name__, "a table of tensors")
        chosen = find_section(data, wanted=section)
        views = list(walk(data[chosen], chosen) if chosen else walk(data))
        tensors = place_views(path, views, offsets)
        return Checkpoint(path, self, tensors, (path,), section=chosen)

    def state_dict(self, path: Path, *, section: str = "") -> dict[str, torch.Tensor]:
        """Load the tensors of the section, memory-mapped where the format allows it."""
        import torch

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

    def seal(self, checkpoint: Checkpoint, splices: Splices, note: str | None) -> Splices:
        """Put the new checksums into archives; the older files have none."""
        return {
            file: in_order((*own, *checksum_splices(file, own))) if is_archive(file) else own
            for file, own in splices.items()
        }


def place_views(
    path: Path, views: list[tuple[str, View]], offsets: dict[str, int]
) -> tuple[Tensor, ...]:
    """Turn views of storages into tensors at places of the file, with what shares them."""
    tensors = []
    for name, view in views:
        if view.storage.key not in offsets:
            _refuse(path, f"tensor {name} has no data in it", "no such entry", "all its tensors")
        offset = offsets[view.storage.key] + view.offset * BITS[view.dtype] // 8
        tensors.append(Tensor(name, view.dtype, view.shape, path, offset, view.strides))
    return tuple(with_users(tensors))


def with_users(tensors: list[Tensor]) -> list[Tensor]:
    """Note for each tensor which others use bytes of it."""
    ordered = sorted(tensors, key=lambda tensor: tensor.offset)
    users: dict[str, list[str]] = {tensor.name: [] for tensor in tensors}
    for index, tensor in enumerate(ordered):
        for other in ordered[index + 1 :]:
            if other.offset >= tensor.offset + tensor.span:
                break
            users[tensor.name].append(other.name)
            users[other.name].append(tensor.name)
    return [replace(tensor, users=tuple(users[tensor.name])) for tensor in tensors]


def _read_zip(path: Path) -> tuple[Any, dict[str, int]]:
    try:
        found = read_archived(path, "data")
    except (zipfile.BadZipFile, pickle.UnpicklingError) as error:
        _refuse(path, "it is damaged", error, "an archive that torch.save wrote")
    if found is None:
        _refuse(path, "it is damaged", "no data.pkl", "an archive that torch.save wrote")
    return found


def read_archived(path: Path, part: str) -> tuple[Any, dict[str, int]] | None:
    """What ``part``.pkl of an archive holds, and where the data of each of its storages begins.

    Returns:
        None if there is no such part.

    Raises:
        zipfile.BadZipFile: If the archive is damaged.
        pickle.UnpicklingError: If the pickle is.
        FileFormatError: If the tensors are compressed, so that they have no place of their own.
    """
    with zipfile.ZipFile(path) as archive:
        name = next((n for n in archive.namelist() if n.endswith(f"/{part}.pkl")), None)
        if name is None:
            return None
        offsets = _storage_offsets(path, name.removesuffix(".pkl") + "/")
        with archive.open(name) as file:
            return read_skeleton(file), offsets


def _storage_offsets(path: Path, folder: str) -> dict[str, int]:
    offsets = {}
    for entry in entries(path):
        name = entry.info.filename
        if not name.startswith(folder):
            continue
        if entry.info.compress_type != zipfile.ZIP_STORED:
            _refuse(path, "its tensors are compressed", name, "stored entries")
        offsets[name[len(folder) :]] = entry.data
    return offsets


def _read_legacy(path: Path) -> tuple[Any, dict[str, int]]:
    try:
        with path.open("rb") as file:
            if read_skeleton(file) != LEGACY_MAGIC:
                _refuse(path, "it is no torch file", "another pickle", "a file of torch.save")
            read_skeleton(file)  # protocol version
            read_skeleton(file)  # sizes of the machine that wrote it
            data = read_skeleton(file)
            keys = read_skeleton(file)
            return data, _legacy_offsets(file, keys, data)
    except pickle.UnpicklingError as error:
        _refuse(path, "it is damaged", error, "a whole file of torch.save")


def _legacy_offsets(file: Any, keys: Any, data: Any) -> dict[str, int]:
    # The storages stand end to end, each behind its number of elements.
    storages = {view.storage.key: view.storage for _, view in walk(data)}
    offsets = {}
    for key in map(str, keys):
        (numel,) = struct.unpack("<q", file.read(8))
        offsets[key] = file.tell()
        dtype = storages[key].dtype if key in storages else None
        if dtype is None:
            break  # of unknown size, so that nothing behind it can be located
        file.seek(numel * BITS[dtype] // 8, 1)
    return offsets


def _refuse(path: Path, what: str, got: object, expected: object) -> NoReturn:
    raise FileFormatError(
        f"{path} cannot be used: {what}",
        got=got,
        expected=expected,
        todo="copy the file again, or save it with torch.save(model.state_dict(), FILE)",
    )
