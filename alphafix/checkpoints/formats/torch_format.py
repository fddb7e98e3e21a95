"""Torch files (.pt, .pth, .bin, .ckpt): zip archives, and the older plain pickles."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

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
from alphafix.reading.boundary import reading
from alphafix.reading.zips import check_zip

if TYPE_CHECKING:
    import torch

_WHOLE = "a whole file of torch.save"

Places = dict[str, tuple[int, int]]
"""Where the data of each storage begins and ends in a file, by its key."""

# First object of a torch file that is no zip archive (torch/serialization.py).
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


def load_torch(path: Path) -> Any:
    """Load a torch file with weights_only, memory-mapped where the format allows it.

    Raises:
        FileFormatError: If it is damaged, or holds more than tensors and plain data.
    """
    import torch

    read_torch(path)  # torch takes what a file asks for; what asks for too much goes no further
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
    except Exception as error:  # torch.load raises many types for damaged files
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
        data, places = read_torch(path)
        if not isinstance(data, dict):
            _refuse(path, "it holds no state dict", type(data).__name__, "a table of tensors")
        chosen = find_section(data, wanted=section)
        with reading(path, _WHOLE):
            views = list(walk(data[chosen], chosen) if chosen else walk(data))
        tensors = place_views(path, views, places)
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


def place_views(path: Path, views: list[tuple[str, View]], places: Places) -> tuple[Tensor, ...]:
    """Turn views of storages into tensors at places of the file, with what shares them."""
    tensors = []
    for name, view in views:
        if view.storage.key not in places:
            _refuse(path, f"tensor {name} has no data in it", "no such entry", "all its tensors")
        start, end = places[view.storage.key]
        offset = start + view.offset * BITS[view.dtype] // 8
        tensor = Tensor(name, view.dtype, view.shape, path, offset, view.strides)
        if offset + tensor.span > end:
            _refuse(path, f"tensor {name} goes beyond its data", view.shape, f"{end - start} bytes")
        tensors.append(tensor)
    return tuple(with_users(tensors))


# Of a tensor, those that are noted: enough to name them.
_MOST_USERS = 16


def with_users(tensors: list[Tensor]) -> list[Tensor]:
    """Note for each tensor others that use bytes of it, the first of them if they are many."""
    ordered = sorted(tensors, key=lambda tensor: tensor.offset)
    users: dict[str, set[str]] = {tensor.name: set() for tensor in tensors}
    farthest: Tensor | None = None  # of those before: whoever overlaps any of them overlaps it
    for index, tensor in enumerate(ordered):
        end = tensor.offset + tensor.span
        if farthest is not None and tensor.offset < farthest.offset + farthest.span:
            users[tensor.name].add(farthest.name)
        for other in ordered[index + 1 : index + 1 + _MOST_USERS]:
            if other.offset < end:
                users[tensor.name].add(other.name)
                users[other.name].add(tensor.name)
        if farthest is None or end > farthest.offset + farthest.span:
            farthest = tensor
    return [replace(tensor, users=tuple(sorted(users[tensor.name]))) for tensor in tensors]


def read_torch(path: Path) -> tuple[Any, Places]:
    """What a torch file holds, with `View` in the place of tensors, and where their data lies.

    Raises:
        FileFormatError: If it is damaged, or names more than there is in it.
    """
    with reading(path, _WHOLE):
        if not is_archive(path):
            with path.open("rb") as file:
                return _read_legacy(path, file)
        check_zip(path, _WHOLE)
        found = read_archived(path, "data")
    if found is None:
        _refuse(path, "it is damaged", "no data.pkl", "an archive that torch.save wrote")
    return found


def read_archived(path: Path, part: str) -> tuple[Any, Places] | None:
    """What ``part``.pkl of an archive holds, and where the data of each of its storages lies.

    Returns:
        None if there is no such part.

    Raises:
        zipfile.BadZipFile: If the archive is damaged.
        pickle.UnpicklingError: If the pickle is.
        FileFormatError: If the tensors are compressed, so that they have no place of their own.
    """
    found = list(entries(path))
    name = next((e.info.filename for e in found if e.info.filename.endswith(f"/{part}.pkl")), None)
    if name is None:
        return None
    folder = name.removesuffix(".pkl") + "/"
    places = {}
    for entry in found:
        if entry.info.filename.startswith(folder):
            if entry.info.compress_type != zipfile.ZIP_STORED:
                _refuse(path, "its tensors are compressed", entry.info.filename, "stored entries")
            key = entry.info.filename.removeprefix(folder)
            places[key] = (entry.data, entry.data + entry.info.file_size)
    with zipfile.ZipFile(path) as archive:
        return read_skeleton(io.BytesIO(archive.read(name))), places


def _read_legacy(path: Path, file: BinaryIO) -> tuple[Any, Places]:
    if read_skeleton(file) != LEGACY_MAGIC:
        _refuse(path, "it is no torch file", "another pickle", "a file of torch.save")
    read_skeleton(file)  # protocol version
    read_skeleton(file)  # sizes of the machine that wrote it
    data = read_skeleton(file)
    keys = read_skeleton(file)
    # The storages stand end to end, each behind its number of elements.
    storages = {view.storage.key: view.storage for _, view in walk(data)}
    places: Places = {}
    for key in map(str, keys):
        (numel,) = struct.unpack("<q", file.read(8))
        dtype = storages[key].dtype if key in storages else None
        start, size = file.tell(), path.stat().st_size
        if dtype is None:  # of unknown size, so that nothing behind it can be located
            places[key] = (start, size)
            break
        end = start + numel * BITS[dtype] // 8
        if not start <= end <= size:
            _refuse(path, "it ends inside a tensor", f"{size:,} bytes", f"{end:,} bytes")
        places[key] = (start, end)
        file.seek(end)
    return data, places


def _refuse(path: Path, what: str, got: object, expected: object) -> NoReturn:
    raise FileFormatError(
        f"{path} cannot be used: {what}",
        got=got,
        expected=expected,
        todo="copy the file again, or save it with torch.save(model.state_dict(), FILE)",
    )
