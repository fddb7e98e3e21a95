"""The front of safetensors files, read strictly: every byte must belong to exactly one tensor."""

from __future__ import annotations

import json
import reprlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from alphafix.checkpoints.formats.tensors import BITS, Tensor
from alphafix.errors import FileFormatError
from alphafix.reading.boundary import require_file
from alphafix.reading.limits import MOST_AXES, MOST_ELEMENTS
from alphafix.values.arrays import Array

# The safetensors library refuses larger headers too, so that a lying length costs nothing.
MOST_HEADER_BYTES = 100_000_000

DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
    "F6_E2M3": "float6_e2m3",
    "F6_E3M2": "float6_e3m2",
    "F4": "float4_e2m1",
}


@dataclass(frozen=True)
class Header:
    """The parsed front of a safetensors file.

    Attributes:
        raw: The JSON text as it stands in the file, padding included.
        metadata: The ``__metadata__`` entries.
        tensors: The tensors in the order of their data.
    """

    raw: bytes
    metadata: dict[str, str]
    tensors: tuple[Tensor, ...]

    @property
    def data_start(self) -> int:
        """Where the tensors' data begins."""
        return 8 + len(self.raw)


def read_header(path: Path) -> Header:
    """Parse and check the header (format: huggingface/safetensors, README).

    Raises:
        FileFormatError: If the length lies, the JSON is broken or has a name twice, or the
            tensors overlap, leave holes, or end elsewhere than the file.
    """
    require_file(path, "a safetensors file")
    size = path.stat().st_size
    with path.open("rb") as file:
        front = file.read(8)
        if len(front) < 8:
            _refuse(path, "it has no header", f"{size} bytes", "at least 8 bytes")
        length = int.from_bytes(front, "little")
        if length > MOST_HEADER_BYTES or 8 + length > size:
            _refuse(
                path,
                "its header's length does not fit, so it is truncated or no safetensors file",
                f"a header of {length:,} bytes in a file of {size:,} bytes",
                f"a header that ends inside the file and has at most {MOST_HEADER_BYTES:,} bytes",
            )
        raw = file.read(length)
    entries = _parse(path, raw)
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        _refuse(path, "its metadata is no table of texts", reprlib.repr(metadata), "name: text")
    tensors = [_tensor(path, name, entry, 8 + length) for name, entry in entries.items()]
    tensors.sort(key=lambda tensor: (tensor.offset, _bytes(tensor)))
    _check_cover(path, tensors, 8 + length, size)
    return Header(raw, metadata, tuple(tensors))


def _parse(path: Path, raw: bytes) -> dict[str, Any]:
    if not raw.startswith(b"{"):
        _refuse(path, "its header is no JSON object", repr(raw[:20]), "text that begins with {")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
            raise ValueError(f"the name {twice!r} twice")
        return made

    def no_constant(text: str) -> NoReturn:
        raise ValueError(f"the constant {text}")

    try:
        parsed = json.loads(raw.decode(), object_pairs_hook=unique, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        _refuse(path, "its header is not valid", str(error)[:200], "JSON with each name once")
    return dict(parsed)


def _tensor(path: Path, name: str, entry: Any, start: int) -> Tensor:
    valid = (
        isinstance(entry, dict)
        and set(entry) == {"dtype", "shape", "data_offsets"}
        and _counts(entry["shape"])
        and _counts(entry["data_offsets"])
        and len(entry["data_offsets"]) == 2
    )
    if not valid:
        _refuse(
            path,
            f"tensor {name!r} is not described as it must be",
            reprlib.repr(entry),
            "dtype, shape (no negative sizes) and two data_offsets",
        )
    dtype = DTYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if dtype is None:
        _refuse(path, f"tensor {name!r} has an unknown dtype", entry["dtype"], ", ".join(DTYPES))
    begin, end = entry["data_offsets"]
    bits = prod(entry["shape"]) * BITS[dtype]
    if bits % 8 or end - begin != bits // 8:
        _refuse(
            path,
            f"the offsets of tensor {name!r} do not fit its shape",
            f"{begin}..{end} for {entry['dtype']} {entry['shape']}",
            f"{bits // 8:,} bytes and {bits % 8} bits",
        )
    return Tensor(name, dtype, tuple(entry["shape"]), path, start + begin)


def _counts(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= MOST_AXES
        and all(type(n) is int and 0 <= n <= MOST_ELEMENTS for n in value)
    )


def _bytes(tensor: Tensor) -> int:
    return prod(tensor.shape) * BITS[tensor.dtype] // 8


def _check_cover(path: Path, tensors: list[Tensor], start: int, size: int) -> None:
    end, before = start, "the header"
    for tensor in tensors:
        if tensor.offset != end:
            _refuse(
                path,
                f"tensor {tensor.name!r} "
                f"{'overlaps' if tensor.offset < end else 'leaves a hole to'} {before}",
                f"offset {tensor.offset - start:,}",
                f"offset {end - start:,}, where {before} ends",
            )
        end, before = end + _bytes(tensor), f"tensor {tensor.name!r}"
    if end != size:
        _refuse(
            path,
            "it is truncated" if size < end else "it goes on behind its last tensor",
            f"a file of {size:,} bytes",
            f"{end:,} bytes, as its header says",
        )


def _refuse(path: Path, what: str, got: object, expected: object) -> NoReturn:
    raise FileFormatError(
        f"{path} is not a whole safetensors file: {what}",
        got=got,
        expected=expected,
        todo="copy or make the file again",
    )


def pack(tensors: Mapping[str, tuple[str, Array]], metadata: dict[str, str]) -> bytes:
    """Return a safetensors file of stored elements (name -> element type, array).

    The safetensors library writes arrays of NumPy, which has no bfloat16.
    """
    codes = {name: code for code, name in DTYPES.items()}
    header: dict[str, Any] = {"__metadata__": metadata}
    parts: list[bytes] = []
    for name, (dtype, array) in tensors.items():
        start = sum(map(len, parts))
        parts.append(np.ascontiguousarray(array).tobytes())
        shape, end = list(array.shape), start + len(parts[-1])
        header[name] = {"dtype": codes[dtype], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text = text.ljust(-(-len(text) // 8) * 8)  # aligned, as the format asks
    return len(text).to_bytes(8, "little") + text + b"".join(parts)
