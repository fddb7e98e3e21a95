"""Zip archives (torch and TorchScript files, .pt2, .npz), looked at before anything is unpacked."""

from __future__ import annotations

import zipfile
from pathlib import Path

from alphafix.errors import FileFormatError
from alphafix.reading.boundary import reading
from alphafix.reading.limits import most_unpacked


def check_zip(path: Path, what: str, *, packed: bool = False) -> tuple[zipfile.ZipInfo, ...]:
    """Read the directory of an archive, and refuse what would unpack to far more than it is.

    Args:
        path: The archive.
        what: What it is to be, with its article.
        packed: Whether members may be compressed. What is not compressed must lie in the file.

    Raises:
        InputError: If it cannot be read.
        FileFormatError: If it is damaged, a name is there twice, a member is larger than the file,
            encrypted, or compressed where it may not be or too much.
    """
    with reading(path, what), zipfile.ZipFile(path) as archive:
        members = tuple(archive.infolist())
    size = path.stat().st_size
    names = {member.filename for member in members}
    if len(names) != len(members):
        raise _refused(path, what, "two members of one name", "each name once")
    plain = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) if packed else (zipfile.ZIP_STORED,)
    for member in members:
        if member.compress_type not in plain or member.flag_bits & 1:
            raise _refused(path, what, f"{member.filename} is compressed", "stored members")
        stored = member.compress_type == zipfile.ZIP_STORED
        if stored and not member.compress_size == member.file_size <= size - member.header_offset:
            raise _refused(
                path, what, f"{member.filename} of {member.file_size:,} bytes", f"at most {size:,}"
            )
    if (unpacked := sum(member.file_size for member in members)) > most_unpacked(size):
        raise _refused(
            path,
            what,
            f"{unpacked:,} bytes in a file of {size:,}",
            f"at most {most_unpacked(size):,}",
            todo="if it is your own, save it without compression",
        )
    return members


def _refused(
    path: Path, what: str, got: str, expected: str, todo: str = "copy or make the file again"
) -> FileFormatError:
    return FileFormatError(
        f"{path} cannot be read as {what}", got=got, expected=expected, todo=todo
    )
