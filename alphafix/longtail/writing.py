"""A folder of files that belong together."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Collection, Mapping
from pathlib import Path

from alphafix.errors import InputError, TargetExistsError, option


def refuse_filled(folder: Path, *, overwrite: bool) -> None:
    """Raise unless ``folder`` is empty, not there, or may be changed.

    Raises:
        TargetExistsError: If it holds something and ``overwrite`` is false.
        InputError: If it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is no folder", got="a file", todo=f"correct {option('output')}")
    if not overwrite and folder.is_dir() and any(folder.iterdir()):
        raise TargetExistsError(
            f"{folder} is not empty",
            expected="a folder that is empty or not there",
            todo=f"give {option('overwrite', True)} to replace the lists in it, or choose another "
            f"{option('output')}",
        )


def write_folder(
    folder: Path, files: Mapping[str, bytes], *, last: str, stale: Collection[str] = ()
) -> None:
    """Write files, all of them or none.

    They are written beside the folder first. A new folder then appears whole; in one that is
    there, ``last`` goes first and comes back last, so that it is never beside files that are
    not its own.

    Args:
        folder: The folder, there or not.
        files: Content by name.
        last: The file that describes the others.
        stale: Files to remove if they are there and not in ``files``.

    Raises:
        InputError: If the folder cannot be written.
    """
    folder = Path(os.path.abspath(folder))
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        temporary.mkdir(parents=True)
        for name, data in files.items():
            with (temporary / name).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        if not folder.exists():
            os.replace(temporary, folder)
            return
        for name in (last, *(name for name in stale if name not in files)):
            (folder / name).unlink(missing_ok=True)
        for name in sorted(files, key=lambda name: name == last):
            os.replace(temporary / name, folder / name)
    except OSError as error:
        raise InputError(
            f"cannot write {folder}",
            got=error.strerror or str(error),
            expected="a folder that can be made or written, and a disk with room",
            todo=f"correct {option('output')}",
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
