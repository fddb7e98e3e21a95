"""Where the fields of a protobuf message lie in a file.

The protobuf library gives values, not places; patching needs the places, so that all other
bytes stay. (Wire format: protobuf.dev/programming-guides/encoding.)
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# Ten bytes of seven bits.
_MOST_BITS = 70


@dataclass(frozen=True)
class Field:
    """A field of a message.

    Attributes:
        number: Its number.
        value: Its value, for numbers; for bytes, texts and messages their length.
        offset: Where in the file its bytes begin.
        is_bytes: Whether it is bytes, a text or a message.
        length_at: Where the number of its bytes stands, right before them.
    """

    number: int
    value: int
    offset: int
    is_bytes: bool
    length_at: int = 0


def fields(file: BinaryIO, start: int, length: int) -> Iterator[Field]:
    """Yield the fields of the message at ``start``, without reading their contents.

    Raises:
        ValueError: If it is no message.
    """
    at, end = start, start + length
    while at < end:
        tag, at = _varint(file, at, end)
        number, kind = tag >> 3, tag & 7
        if kind == _BYTES:
            length_at = at
            size, at = _varint(file, at, end)
            if at + size > end:
                raise ValueError(f"a field of {size} bytes goes beyond its message")
            yield Field(number, size, at, True, length_at)
            at += size
        elif kind == _VARINT:
            value, next_at = _varint(file, at, end)
            yield Field(number, value, at, False)
            at = next_at
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
            value = int.from_bytes(os.pread(file.fileno(), size, at), "little")
            yield Field(number, value, at, False)
            at += size
        else:
            raise ValueError(f"unknown wire type {kind}")


def _varint(file: BinaryIO, at: int, end: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(os.pread(file.fileno(), 10, at)):
        value |= (byte & 0x7F) << (7 * index)
        if not byte & 0x80:
            if at + index >= end:
                break
            return value, at + index + 1
    raise ValueError("a number goes beyond its message")


def content(file: BinaryIO, field: Field) -> bytes:
    """The bytes of a field of bytes."""
    return os.pread(file.fileno(), field.value, field.offset)


def packed(data: bytes) -> list[int]:
    """The numbers of a packed field.

    Raises:
        ValueError: If one of them has no end.
    """
    numbers, value, shift = [], 0, 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if shift > _MOST_BITS:
            raise ValueError("a number goes beyond 64 bits")
        if not byte & 0x80:
            numbers.append(value)
            value, shift = 0, 0
    return numbers


def text_entry(number: int, key: str, value: str) -> bytes:
    """Encode a field that is a StringStringEntryProto (key = 1, value = 2)."""
    inner = b"".join(
        bytes([place << 3 | _BYTES]) + encoded(len(text)) + text
        for place, text in ((1, key.encode()), (2, value.encode()))
    )
    return encoded(number << 3 | _BYTES) + encoded(len(inner)) + inner


def encoded(number: int) -> bytes:
    """Encode a number as a varint."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])
