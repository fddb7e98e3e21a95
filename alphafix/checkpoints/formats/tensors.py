"""Tensors where they lie in a file: the one view that all checkpoint formats give."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alphafix.errors import FileFormatError, InputError
from alphafix.reading.limits import MIB
from alphafix.values.arrays import Array, FloatArray

# Element types by their torch name, and their width in bits.
BITS = {
    **dict.fromkeys(("complex128",), 128),
    **dict.fromkeys(("float64", "int64", "uint64", "complex64"), 64),
    **dict.fromkeys(("float32", "int32", "uint32"), 32),
    **dict.fromkeys(("float16", "bfloat16", "int16", "uint16"), 16),
    **dict.fromkeys(("int8", "uint8", "bool", "float8_e4m3fn", "float8_e5m2"), 8),
    **dict.fromkeys(("float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"), 8),
    **dict.fromkeys(("float6_e2m3", "float6_e3m2"), 6),
    **dict.fromkeys(("float4_e2m1",), 4),
}

# Element types that a head may have: those that hold float32 rows to a known rounding.
REAL = ("float64", "float32", "float16", "bfloat16")

# Half the distance between neighbouring numbers, relative: the largest rounding error.
ROUNDING = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}


@dataclass(frozen=True)
class Tensor:
    """A tensor's place in a file.

    Attributes:
        name: Its full name, as stored.
        dtype: Its element type, by its torch name.
        shape: Its shape.
        file: The file that holds its bytes.
        offset: Where in that file its first element is.
        strides: Elements from one index to the next, one an axis; row-major if not given.
        users: What else uses the same bytes (names of tensors, or of graph operations).
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    offset: int
    strides: tuple[int, ...] = ()
    users: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.strides:
            object.__setattr__(self, "strides", row_major(self.shape))

    @property
    def itemsize(self) -> int:
        """Bytes an element."""
        return BITS[self.dtype] // 8

    @property
    def span(self) -> int:
        """Bytes from the first element to the end of the last one."""
        if 0 in self.shape:
            return 0
        last = sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        return (last + 1) * self.itemsize


def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides, in elements, of an array without gaps."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def read_raw(tensor: Tensor) -> bytearray:
    """Return the bytes of a tensor's span.

    Raises:
        FileFormatError: If the file ends before it, or a few bytes stand for very many elements.
    """
    there = max(0, tensor.file.stat().st_size - tensor.offset)
    if tensor.span > there:
        raise FileFormatError(
            f"{tensor.file} ends inside tensor {tensor.name}",
            got=f"{there:,} bytes of it",
            expected=f"{tensor.span:,} bytes",
            todo="copy or make the file again",
        )
    if math.prod(tensor.shape) * tensor.itemsize > max(tensor.span, MIB):
        raise FileFormatError(
            f"tensor {tensor.name} of {tensor.file} has more elements than bytes",
            got=f"shape {tensor.shape}, strides {tensor.strides}",
            expected="elements of their own, not one for many",
            todo="save the model's tensors with contiguous()",
        )
    buffer = bytearray(tensor.span)
    with tensor.file.open("rb") as file:
        file.seek(tensor.offset)
        file.readinto(buffer)
    return buffer


def elements(tensor: Tensor, raw: bytearray) -> Array:
    """Return a writable view of ``raw`` with the tensor's shape; bfloat16 as uint16 bits."""
    dtype = np.dtype("<u2" if tensor.dtype == "bfloat16" else tensor.dtype).newbyteorder("<")
    strides = tuple(step * tensor.itemsize for step in tensor.strides)
    array: Array = np.ndarray(tensor.shape, dtype, buffer=raw, strides=strides)
    return array


def read_values(tensor: Tensor) -> FloatArray:
    """Return a tensor's values as float32.

    Raises:
        InputError: If its element type holds no plain real numbers.
    """
    if tensor.dtype not in REAL:
        raise InputError(
            f"tensor {tensor.name} of {tensor.file} holds no plain real numbers",
            got=tensor.dtype,
            expected=" or ".join(REAL),
            todo="quantised layers cannot be patched; patch the model before it is quantised",
        )
    return decode(elements(tensor, read_raw(tensor)), tensor.dtype)


def decode(array: Array, dtype: str) -> FloatArray:
    """Stored elements -> float32."""
    if dtype == "bfloat16":
        wide = array.astype(np.uint32) << np.uint32(16)
        values: FloatArray = wide.view(np.float32)
        return values
    return np.asarray(array, dtype=np.float32)


def encode(values: FloatArray, dtype: str) -> Array:
    """float32 -> stored elements, to the nearest, ties to even (as torch rounds)."""
    if dtype == "bfloat16":
        bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
        # Adding just under half of the dropped part, plus the kept part's last bit, carries
        # exactly when rounding to nearest even says so.
        rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
        half: Array = (rounded >> np.uint32(16)).astype("<u2")
        return half
    with np.errstate(over="ignore"):  # what overflows is found and refused as a whole
        stored: Array = values.astype(np.dtype(dtype).newbyteorder("<"))
    return stored
