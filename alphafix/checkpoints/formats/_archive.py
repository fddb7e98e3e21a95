"""Checksums of zip archives (torch and TorchScript files) whose entries have changed in place."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from alphafix.checkpoints.formats.splices import Splice

# Sizes of the fixed parts and places of the checksum (PKWARE APPNOTE, 4.3.7, 4.3.9, 4.3.12).
_LOCAL_SIZE, _LOCAL_CRC, _LOCAL_LENGTHS = 30, 14, 26
_CENTRAL_SIZE, _CENTRAL_CRC, _CENTRAL_LENGTHS = 46, 16, 28
_DESCRIPTOR = b"PK\x07\x08"
_HAS_DESCRIPTOR = 0x08
_BUFFER = 4 << 20

# How files begin that torch writes: archives, and the older plain pickles (protocols 2 to 5).
ARCHIVE = b"PK\x03\x04"
PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


@dataclass(frozen=True)
class Entry:
    """A stored file of an archive.

    Attributes:
        info: What the archive says of it.
        data: Where its bytes begin.
        central: Where its record in the central directory begins.
    """

    info: zipfile.ZipInfo
    data: int
    central: int


def is_archive(path: Path) -> bool:
    """Whether a file begins as a zip archive does (as torch itself tells its files apart)."""
    with path.open("rb") as file:
        return file.read(4) == ARCHIVE


def entries(path: Path) -> Iterator[Entry]:
    """Yield the entries of an archive with their places.

    Raises:
        zipfile.BadZipFile: If it is damaged.
    """
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        central = archive.start_dir
        for info in archive.infolist():
            local = info.header_offset
            data = local + _LOCAL_SIZE + sum(_numbers(file, local + _LOCAL_LENGTHS, "<HH"))
            yield Entry(info, data, central)
            central += _CENTRAL_SIZE + sum(_numbers(file, central + _CENTRAL_LENGTHS, "<HHH"))


def _numbers(file: BinaryIO, at: int, layout: str) -> tuple[int, ...]:
    file.seek(at)
    return struct.unpack(layout, file.read(struct.calcsize(layout)))


def checksum_splices(path: Path, splices: Sequence[Splice]) -> list[Splice]:
    """Return the splices that put the new checksums of changed entries into an archive.

    A checksum that was wrong before (torch can be told not to compute them) is left alone.
    """
    found: list[Splice] = []
    with path.open("rb") as file:
        for entry in entries(path):
            end = entry.data + entry.info.file_size
            inside = [s for s in splices if s.offset < end and s.end > entry.data]
            if not inside:
                continue
            old, new = _checksum(file, entry, ()), _checksum(file, entry, inside)
            if old != entry.info.CRC:
                continue
            places = [entry.central + _CENTRAL_CRC]
            if entry.info.flag_bits & _HAS_DESCRIPTOR:
                file.seek(end)
                places.append(end + (4 if file.read(4) == _DESCRIPTOR else 0))
            else:
                places.append(entry.info.header_offset + _LOCAL_CRC)
            found += [Splice(place, 4, struct.pack("<I", new)) for place in places]
    return found


def _checksum(file: BinaryIO, entry: Entry, splices: Sequence[Splice]) -> int:
    checksum, at, end = 0, entry.data, entry.data + entry.info.file_size
    while at < end:
        file.seek(at)
        block = bytearray(file.read(min(_BUFFER, end - at)))
        for splice in splices:
            start, stop = max(splice.offset, at), min(splice.end, at + len(block))
            if start < stop:
                part = splice.data[start - splice.offset : stop - splice.offset]
                block[start - at : stop - at] = part
        checksum = zlib.crc32(block, checksum)
        at += len(block)
    return checksum
