"""Arrays in .npz and .npy files, whose headers must tell the truth before memory is taken."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from alphafix.errors import FileFormatError
from alphafix.reading.boundary import reading
from alphafix.reading.limits import MOST_AXES, MOST_ELEMENTS
from alphafix.reading.zips import check_zip

Array = npt.NDArray[Any]

_NPZ, _NPY = "an .npz file of plain arrays", "an .npy file of a plain array"
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def npz_names(path: Path) -> frozenset[str]:
    """Names of the arrays in an .npz file.

    Raises:
        InputError: If it cannot be read.
        FileFormatError: If it is no such file.
    """
    return frozenset(map(_name, check_zip(path, _NPZ, packed=True)))


def read_npz(path: Path, names: Iterable[str]) -> dict[str, Array]:
    """Read those arrays of an .npz file that are there; no other is unpacked.

    Args:
        path: The file.
        names: The arrays that are wanted.

    Raises:
        InputError: If it cannot be read.
        FileFormatError: If it is no such file, or an array is of objects or not as long as it says.
    """
    wanted = set(names)
    members = [member for member in check_zip(path, _NPZ, packed=True) if _name(member) in wanted]
    with reading(path, _NPZ, todo="save it again with np.savez"), zipfile.ZipFile(path) as archive:
        for member in members:
            with archive.open(member) as file:
                _check_header(path, file, member.file_size)
        with np.load(path, allow_pickle=False) as arrays:
            return {_name(member): arrays[member.filename] for member in members}


def _name(member: zipfile.ZipInfo) -> str:
    return member.filename.removesuffix(".npy")


def read_npy(path: Path, *, mapped: bool = False) -> Array:
    """Read an .npy file.

    Args:
        path: The file.
        mapped: Whether its elements stay on the disk until they are used.

    Raises:
        InputError: If it cannot be read.
        FileFormatError: If it is no such file, or of objects, or not as long as it says.
    """
    with reading(path, _NPY, todo="save it again with np.save"):
        with path.open("rb") as file:
            _check_header(path, file, os.fstat(file.fileno()).st_size)
        array: Array = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
        return array


def _check_header(path: Path, file: IO[bytes], size: int) -> None:
    """Hold the shape and the type that a header says against the bytes behind it."""
    read = _HEADERS.get(np.lib.format.read_magic(file))
    if read is None:
        raise ValueError("a version of .npy for records alone")
    shape, _, dtype = read(file)
    counts = all(type(n) is int and 0 <= n <= MOST_ELEMENTS for n in shape)
    if dtype.hasobject or dtype.itemsize == 0 or len(shape) > MOST_AXES or not counts:
        raise ValueError(f"elements {dtype}, shape {str(shape)[:80]}; no pickled objects are read")
    if math.prod(shape) * dtype.itemsize != size - file.tell():
        raise FileFormatError(
            f"{path} is not whole",
            got=f"{size - file.tell():,} bytes of an array",
            expected=f"{dtype} of shape {shape}, as its header says",
            todo="copy or make the file again",
        )
