"""What a Parquet file makes its reader unpack, told from its footer and the headers of its pages.

A page of a few bytes can hold one value 2^30 times, so that the sizes that a file declares (which
are those of encoded values) say little. The number of values is in the footer and in each page's
header, and readers follow them: both are read here, before any page is unpacked. The structures and
their fields are those of Apache Parquet's parquet.thrift, in Thrift's compact protocol.
"""

from __future__ import annotations

import mmap
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alphafix.reading.limits import MIB, MOST_ELEMENTS, MOST_NESTED

_MAGIC = b"PAR1"

# Bytes of a value by its physical type; of texts and bytes, which have none, the place of one.
_WIDTHS = {0: 1, 1: 4, 2: 8, 3: 12, 4: 4, 5: 8, 6: 8, 7: 8}
_TEXTS = (6, 7)

# Levels by which lists are put together, and the validity of each value.
_LEVELS = 8

# A footer has some 200 bytes for each part of a column, which has 64 KiB or more in honest files;
# pages have 1 MiB. Both are parsed in Python, so that there may not be more for a file of its size.
_FREE_FOOTER = MIB
_FREE_PAGES = 1000
_BYTES_A_PAGE = 256


@dataclass(frozen=True)
class Unpacked:
    """What columns of a file unpack to, at most.

    Attributes:
        size: Bytes of all values, those of texts left out.
        page: Bytes of the largest page of texts, which each row may repeat; 0 without texts.
    """

    size: int
    page: int


def measure(path: Path, columns: Collection[str], most: int) -> Unpacked:
    """Look at the footer and all page headers of some columns.

    Args:
        path: The file.
        columns: Names of the columns that are read.
        most: Bytes that one page may unpack to.

    Raises:
        ValueError: If it is no Parquet file, or its parts are not where it says.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        footer = _footer(data)
        _require_flat(footer)
        size, largest = 0, 0
        pages = _FREE_PAGES + len(data) // _BYTES_A_PAGE
        for chunk in _chunks(footer, columns):
            values = 0
            for header in _pages(data, chunk):
                pages -= 1
                if pages < 0:
                    raise ValueError("more pages than a file of its size has")
                if not 0 <= header.unpacked <= most:
                    raise ValueError(f"a page that unpacks to {header.unpacked:,} bytes")
                values += header.values
                if chunk.kind in _TEXTS:
                    largest = max(largest, header.unpacked)
            size += max(values, chunk.values) * (_WIDTHS[chunk.kind] + _LEVELS)
    return Unpacked(size, largest)


def _footer(data: mmap.mmap) -> dict[int, Any]:
    if len(data) < 12 or data[:4] != _MAGIC or data[-4:] != _MAGIC:
        raise ValueError("no Parquet file (or an encrypted one)")
    length = int.from_bytes(data[-8:-4], "little")
    if length > len(data) - 12 or length > max(_FREE_FOOTER, len(data) // 10):
        raise ValueError(f"a footer of {length:,} bytes in a file of {len(data):,}")
    return _Compact(bytes(data[-8 - length : -8])).struct()


def _require_flat(footer: dict[int, Any]) -> None:
    """Refuse columns within columns, by hundreds, which readers enter by recursion."""
    open_groups: list[int] = []
    for element in _structs(footer.get(2)):
        while open_groups and open_groups[-1] == 0:
            open_groups.pop()
        if open_groups:
            open_groups[-1] -= 1
        if children := _count(element.get(5, 0)):
            open_groups.append(children)
        if len(open_groups) > MOST_NESTED:
            raise ValueError("columns within columns")


@dataclass(frozen=True)
class _Chunk:
    """A part of a column: physical type, number of values, and where its pages are."""

    kind: int
    values: int
    start: int
    end: int


def _chunks(footer: dict[int, Any], columns: Collection[str]) -> Iterator[_Chunk]:
    names = {name.encode() for name in columns}
    for group in _structs(footer.get(4)):
        for chunk in _structs(group.get(1)):
            found = chunk.get(3)
            if not isinstance(found, dict) or 1 in chunk:
                raise ValueError("a column that is elsewhere, or nowhere")
            place = found.get(3)
            if not isinstance(place, list) or not place or place[0] not in names:
                continue
            first, dictionary = _count(found.get(9)), _count(found.get(11, 0))
            start = min(first, dictionary) if dictionary else first
            if found.get(1) not in _WIDTHS:
                raise ValueError("a column of an unknown type")
            end = start + _count(found.get(7))
            yield _Chunk(found[1], _count(found.get(5)), start, end)


@dataclass(frozen=True)
class _Page:
    """A page: bytes that it unpacks to, and number of values (none in a dictionary)."""

    unpacked: int
    values: int


def _pages(data: mmap.mmap, chunk: _Chunk) -> Iterator[_Page]:
    place, seen = chunk.start, 0
    while place < chunk.end and seen < chunk.values:
        reader = _Compact(data, place)
        header = reader.struct()
        size = _count(header.get(3))
        place = reader.place + size
        if place > len(data):
            raise ValueError("a page that goes beyond the file")
        body = header.get(5) or header.get(8) or {}
        values = _count(body.get(1, 0)) if isinstance(body, dict) else 0
        seen += values
        yield _Page(_count(header.get(2)), values)


def _structs(found: object) -> list[dict[int, Any]]:
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise ValueError("a footer of another form")
    return found


def _count(found: object) -> int:
    if type(found) is not int or not 0 <= found <= MOST_ELEMENTS:
        raise ValueError(f"{found!r:.80} in the place of a size")
    return found


class _Compact:
    """Reads structures of Thrift's compact protocol as dictionaries by field number."""

    def __init__(self, data: bytes | mmap.mmap, place: int = 0) -> None:
        self.place = place
        self._data = data

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """Read a structure."""
        if depth > MOST_NESTED:
            raise ValueError("structures within structures")
        found: dict[int, Any] = {}
        field = 0
        while (head := self._byte()) != 0:
            field = field + (head >> 4) if head >> 4 else self._integer()
            found[field] = self._value(head & 15, depth, field=True)
        return found

    def _value(self, kind: int, depth: int, *, field: bool = False) -> Any:
        if kind in (1, 2):  # true and false; of a field they are the type itself
            return kind == 1 if field else self._byte() == 1
        if kind == 3:
            return self._byte()
        if kind in (4, 5, 6):
            return self._integer()
        if kind == 7:
            return self._bytes(8)
        if kind == 8:
            return self._bytes(self._natural())
        if kind in (9, 10):
            return self._list(depth)
        if kind == 12:
            return self.struct(depth + 1)
        raise ValueError(f"a value of the type {kind}")  # Parquet has no maps

    def _list(self, depth: int) -> list[Any]:
        head = self._byte()
        length = head >> 4 if head >> 4 < 15 else self._natural()
        if length > len(self._data) - self.place:
            raise ValueError(f"{length:,} items behind the end")
        return [self._value(head & 15, depth + 1) for _ in range(length)]

    def _byte(self) -> int:
        if not 0 <= self.place < len(self._data):
            raise ValueError("a structure that does not end")
        self.place += 1
        return self._data[self.place - 1]

    def _bytes(self, length: int) -> bytes:
        if length > len(self._data) - self.place:
            raise ValueError(f"{length:,} bytes behind the end")
        self.place += length
        return bytes(self._data[self.place - length : self.place])

    def _natural(self) -> int:
        found = shift = 0
        while True:
            byte = self._byte()
            found |= (byte & 127) << shift
            if byte < 128:
                return found
            shift += 7
            if shift > 63:
                raise ValueError("a number of more than 64 bits")

    def _integer(self) -> int:
        natural = self._natural()
        return (natural >> 1) ^ -(natural & 1)
