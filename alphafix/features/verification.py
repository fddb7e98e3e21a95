"""Whether the shards of a store are what its manifest says, byte by byte.

Each shard is hashed before its first use. What was found whole is remembered by the marks that the
system gives a file (size, times and inode), so that the next command reads nothing twice.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from alphafix.errors import AlphafixError, FileFormatError, option
from alphafix.features.shards import Shard
from alphafix.files import read_json, sha256_file, write_json
from alphafix.reading.boundary import is_beside, real

MEMORY = ".verified.json"

# A file that was written within one tick of the clock after it was read bears the same marks; the
# coarsest clock of file systems in use (FAT's) ticks every two seconds.
_TICK = 2_000_000_000

# What is hashed in less time than a note of it is written and flushed is not noted.
_WORTH_A_NOTE = 32 << 20

# SHA-256 in a thread takes no lock of Python, and keeps up with most disks by itself.
_MOST_THREADS = 8


def require_inside(folder: Path, shards: Sequence[Shard]) -> None:
    """Check that shards are files of the store's own folder.

    Raises:
        FileFormatError: If a manifest names another place, or a shard is missing or a link to one.
    """
    own = real(folder)
    for shard in shards:
        path = folder / shard.file
        if Path(shard.file).name != shard.file or shard.file == ".." or "\0" in shard.file:
            raise FileFormatError(
                f"the manifest of {folder} names a shard outside of it",
                got=shard.file,
                expected="names of files in that folder",
                todo="do not use this folder: extract again",
            )
        if not is_beside(folder, shard.file):
            raise FileFormatError(
                f"a shard of {folder} is missing",
                got=f"no {shard.file}",
                expected=f"{len(shards)} shards as the manifest lists them",
                todo=f"extract again with {option('overwrite', True)}",
            )
        if real(path).parent != own:
            raise FileFormatError(
                f"a shard of {folder} is a link that leads out of it",
                got=f"{shard.file} -> {real(path)}",
                expected="a file in that folder",
                todo="put the file itself there",
            )


def verify_shards(folder: Path, shards: Sequence[Shard], *, anew: bool = False) -> None:
    """Compare shards with the hashes in the manifest.

    Args:
        folder: Folder of the store.
        shards: Its shards.
        anew: Whether what was compared before, and has not changed since, is read again.

    Raises:
        FileFormatError: If one differs.
    """
    earlier = {} if anew else _remembered(folder)
    todo = [shard for shard in shards if earlier.get(shard.file) != _marks(folder, shard)]
    if not todo:
        return
    now = time.time_ns()  # before they are read
    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1, len(todo))) as threads:
        for shard, found in zip(todo, threads.map(lambda s: _hashed(folder, s), todo), strict=True):
            if found != shard.sha256:
                raise FileFormatError(
                    f"{folder / shard.file} has changed since it was written",
                    got=f"SHA-256 {found[:12]}",
                    expected=f"{shard.sha256[:12]}, as the manifest says",
                    todo=f"extract again with {option('overwrite', True)}, or bring the file back",
                )
    remember(folder, shards, now)


def remember(folder: Path, shards: Sequence[Shard], now: int) -> None:
    """Note that shards were whole at a time (ns), unless it cannot be told from their marks.

    A folder that cannot be written is not an error: its shards are read again.
    """
    marks = {shard.file: _marks(folder, shard) for shard in shards}
    if sum(own[0] for own in marks.values()) < _WORTH_A_NOTE:
        return
    settled = {name: own for name, own in marks.items() if max(own[1:3]) < now - _TICK}
    with contextlib.suppress(AlphafixError, OSError):
        if settled != _remembered(folder):
            write_json(folder / MEMORY, settled, overwrite=True)


def _hashed(folder: Path, shard: Shard) -> str:
    return sha256_file(folder / shard.file)


def _marks(folder: Path, shard: Shard) -> list[Any]:
    """Size, times of the last change of content and of anything, inode; and the hash expected."""
    found = (folder / shard.file).stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, shard.sha256]


def _remembered(folder: Path) -> dict[str, Any]:
    """Marks of the shards that were found whole."""
    try:
        found = read_json(folder / MEMORY)
    except (AlphafixError, OSError):
        return {}
    return found if isinstance(found, dict) else {}
