"""Torch files (.pt, .pth, .bin, .ckpt): zip archives, and the older plain pickles."""

from __future__ import annotations

import functools
import io
import logging
import pickle
import struct
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

import numpy as np

from alphafix.checkpoints.formats._archive import (
    ARCHIVE,
    PICKLES,
    checksum_splices,
    entries,
    is_archive,
)
from alphafix.checkpoints.formats._skeleton import Inert, Skeleton, View, read_skeleton, walk
from alphafix.checkpoints.formats.class_names import class_names_in
from alphafix.checkpoints.formats.format import Checkpoint, Format, Splices
from alphafix.checkpoints.formats.sections import SECTIONS, find_section, sections_in
from alphafix.checkpoints.formats.splices import in_order
from alphafix.checkpoints.formats.tensors import BITS, Tensor
from alphafix.errors import FileFormatError, call, some
from alphafix.reading.boundary import reading
from alphafix.reading.zips import check_zip

if TYPE_CHECKING:
    import torch

_WHOLE = "a whole file of torch.save"

Places = dict[str, tuple[int, int]]
"""Where the data of each storage begins and ends in a file, by its key."""

logger = logging.getLogger(__name__)

# First object of a torch file that is no zip archive (torch/serialization.py).
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
# How every protocol that is read writes this number, and by where (with frames: some bytes on).
_MAGIC = b"\x8a\x0a" + LEGACY_MAGIC.to_bytes(10, "little")
_MAGIC_WITHIN = 32
# Bytes of a pickle that name the class of the object in it.
_FRONT = 256


def load_torch(path: Path) -> Any:
    """Load a torch file with weights_only, memory-mapped where the format allows it.

    Torch takes what a file asks for: so this is the one place where a file is given to it, and
    only after a look at what the file asks for.

    Raises:
        FileFormatError: If it is damaged, holds more than tensors and plain data, or asks for more
            memory than it has bytes.
    """
    import torch

    found, places = read_torch(path)
    with reading(path, _WHOLE):
        views = list(walk(found.data))
    place_views(path, views, places)
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


def load_torch_bytes(data: bytes) -> Any:
    """Load a torch file that is a part of another file (see `load_torch`)."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        return load_torch(Path(file.name))


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "GLOBAL" in line or "Unsupported" in line]
    return (telling or lines or [type(error).__name__])[0][:300]


class TorchFormat(Format):
    """What `torch.save` writes, nested or not.

    Objects that `torch.load` refuses with weights_only (settings of a training script, numbers of
    NumPy, a whole model) are passed over: nothing of them is made, and no code of them is run.

    Args:
        with_code: Whether files are read that call what only code has use for. It is not run
            here; but whoever loads the file otherwise runs it.
    """

    name = "torch"

    def __init__(self, *, with_code: bool = False) -> None:
        self._with_code = with_code

    def detect(self, path: Path, front: bytes) -> bool:
        """Tell an archive or a pickle by its first bytes."""
        return front.startswith((ARCHIVE, *PICKLES))

    def open(self, path: Path, *, section: str = "", folder: Path | None = None) -> Checkpoint:
        """Read where the tensors lie.

        Raises:
            FileFormatError: If it is damaged, would run code, or holds no state dict.
        """
        found, places = read_torch(path)
        _tell_passed_over(path, found.named, allowed=self._with_code)
        data, chosen = found.data, ""
        sections: tuple[str, ...] = ()
        if isinstance(data, dict):
            sections, chosen = sections_in(data), find_section(data, wanted=section)
            others = " and ".join(name for name in sections if name != chosen)
            if others:
                told = f"{path.name}: {chosen} is used, and {others} stays as it is"
                _tell_once(logging.WARNING, told)
            data = data[chosen] if chosen else data
        with reading(path, _WHOLE):
            views = list(walk(data, chosen))
        tensors = place_views(path, views, places)
        if not tensors:
            raise _no_state_dict(path, data)
        names = class_names_in(found.data)
        checkpoint = Checkpoint(path, self, tensors, (path,), section=chosen, sections=sections)
        return replace(checkpoint, class_names=names)

    def state_dict(self, path: Path, *, section: str = "") -> dict[str, torch.Tensor]:
        """Load the tensors of the section, memory-mapped: the same that `open` finds."""
        checkpoint = self.open(path, section=section)
        prefix = checkpoint.section + "." if checkpoint.section else ""
        tensors = map_tensors(checkpoint.tensors)
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}

    def seal(self, checkpoint: Checkpoint, splices: Splices, note: str | None) -> Splices:
        """Put the new checksums into archives; the older files have none."""
        return {
            file: in_order((*own, *checksum_splices(file, own))) if is_archive(file) else own
            for file, own in splices.items()
        }


def map_tensors(tensors: Sequence[Tensor]) -> dict[str, torch.Tensor]:
    """Load tensors by name, memory-mapped where they are aligned; what is changed stays there.

    Raises:
        FileFormatError: If one has an element type that torch has no name for.
    """
    import torch

    maps = {file: np.memmap(file, mode="c") for file in {tensor.file for tensor in tensors}}
    found = {}
    for tensor in tensors:
        dtype = getattr(torch, tensor.dtype)
        raw = maps[tensor.file][tensor.offset : tensor.offset + tensor.span]
        whole = raw if tensor.offset % tensor.itemsize == 0 else raw.copy()
        flat = torch.from_numpy(whole).view(dtype) if raw.size else torch.empty(0, dtype=dtype)
        found[tensor.name] = flat.as_strided(tensor.shape, tensor.strides)
    return found


# Modules and functions that no settings and no weights are made of, only code that is to run.
_CODE = frozenset(
    {
        *("os", "posix", "nt", "subprocess", "sys", "importlib", "runpy", "shutil", "socket"),
        *("pty", "ctypes", "code", "timeit", "pdb", "webbrowser", "pip", "multiprocessing"),
    }
)
_CODE_BUILTINS = frozenset(("eval", "exec", "compile", "open", "__import__", "execfile", "input"))


def _tell_passed_over(path: Path, named: frozenset[str], *, allowed: bool) -> None:
    """Say what else than tensors a file holds.

    Raises:
        FileFormatError: If it would run code, and is not allowed to hold any.
    """
    calls = sorted(
        name
        for name in named
        if name.partition(".")[0] in _CODE
        or (name.startswith("builtins.") and name.rpartition(".")[2] in _CODE_BUILTINS)
    )
    if calls and not allowed:
        raise FileFormatError(
            f"{path} is refused: it holds more than tensors and plain data",
            got=f"it would call {some(calls)}",
            expected="a file that torch.load(..., weights_only=True) accepts, or settings beside "
            "the weights; any other could run code of its maker's choice",
            todo="save the weights alone: torch.save(model.state_dict(), FILE)",
        )
    # What weights_only accepts too is not worth a word.
    others = sorted(name for name in named if name.partition(".")[0] not in ("torch", "_codecs"))
    if others:
        told = f"{path.name}: passed over, and not run: objects of {some(others)}"
        _tell_once(logging.INFO, told)


@functools.cache  # a command opens a file several times
def _tell_once(level: int, text: str) -> None:
    logger.log(level, "%s", text)


def _no_state_dict(path: Path, data: object) -> FileFormatError:
    got = type(data).__name__
    if isinstance(data, Inert):
        got = f"an object of {data.named} without tensors"
    elif isinstance(data, dict) and data:
        name, value = next(iter(data.items()))
        got = f"{name!r}, a {type(value).__name__}"
    return FileFormatError(
        f"{path} holds no state dict",
        got=got,
        expected="tensors by name, plain or under one of " + ", ".join(SECTIONS),
        todo="save the weights alone: torch.save(model.state_dict(), FILE)",
    )


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


def read_torch(path: Path) -> tuple[Skeleton, Places]:
    """What a torch file holds, with `View` in the place of tensors, and where their data lies.

    Raises:
        FileFormatError: If it is damaged, or names more than there is in it.
    """
    with reading(path, _WHOLE):
        if not is_archive(path):
            with path.open("rb") as file:
                return _read_legacy(path, file)
        check_zip(path, _WHOLE)
        _require_byte_order(path)
        found = read_archived(path, "data")
    if found is None:
        _refuse(path, "it is damaged", "no data.pkl", "an archive that torch.save wrote")
    return found


def _require_byte_order(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith("/byteorder")]
        if any(archive.read(name).strip() == b"big" for name in names):
            raise _big_endian(path)


def _big_endian(path: Path) -> FileFormatError:
    return FileFormatError(
        f"{path} was saved on a machine that puts the high byte of a number first",
        got="big-endian numbers",
        expected="little-endian numbers, which this machine and nearly all others have",
        todo="load and save it once here, torch.load turns the bytes round: "
        "torch.save(torch.load(FILE, weights_only=True), NEW)",
    )


def read_archived(path: Path, part: str) -> tuple[Skeleton, Places] | None:
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


def _refuse_other_pickle(path: Path, file: BinaryIO) -> None:
    """Say of a pickle of another library that it is one: reading on would end as damage."""
    front = file.read(_FRONT)
    file.seek(0)
    if len(front) < _FRONT or _MAGIC in front[:_MAGIC_WITHIN]:
        return
    if b"sklearn." in front:
        raise FileFormatError(
            f"{path} is no torch file, but a pickle of scikit-learn, which is not opened",
            got="a pickle (pickle.dump, joblib.dump)",
            expected="a model file: safetensors, torch, TorchScript or ONNX",
            todo="load it in Python: alphafix.checkpoints.head_of gives the head of a linear model "
            f"for {call('neighbors', features='FILE', head='FILE')}, and "
            "alphafix.checkpoints.with_correction the corrected model",
        )
    _refuse(path, "it is no torch file", "another pickle", "a file of torch.save")


def _read_legacy(path: Path, file: BinaryIO) -> tuple[Skeleton, Places]:
    _refuse_other_pickle(path, file)
    if read_skeleton(file).data != LEGACY_MAGIC:
        _refuse(path, "it is no torch file", "another pickle", "a file of torch.save")
    read_skeleton(file)  # protocol version
    machine = read_skeleton(file).data
    if isinstance(machine, dict) and machine.get("little_endian") is False:
        raise _big_endian(path)
    found = read_skeleton(file)
    keys = read_skeleton(file).data
    # The storages stand end to end, each behind its number of elements.
    storages = {view.storage.key: view.storage for _, view in walk(found.data)}
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
    return found, places


def _refuse(path: Path, what: str, got: object, expected: object) -> NoReturn:
    raise FileFormatError(
        f"{path} cannot be used: {what}",
        got=got,
        expected=expected,
        todo="copy the file again, or save it with torch.save(model.state_dict(), FILE)",
    )
