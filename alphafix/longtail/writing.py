"""A folder of files that belong together."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from alphafix.errors import InputError, TargetExistsError, option
from alphafix.files import atomic_paths, holds, remove_temporary, together


def refuse_filled(folder: Path, files: Mapping[str, bytes], *, overwrite: bool) -> None:
    """Raise unless ``folder`` holds nothing but ``files``, is not there, or may be changed.

    A killed command leaves some of its files, just as the same command would write them.

    Args:
        folder: The folder.
        files: Content by name.
        overwrite: Whether it may be changed.

    Raises:
        TargetExistsError: If it holds something else and ``overwrite`` is false.
        InputError: If it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is no folder", got="a file", todo=f"correct {option('output')}")
    if overwrite or not folder.is_dir():
        return
    for name in files:
        remove_temporary(folder, name)
    others = [p for p in folder.iterdir() if p.name not in files or not holds(p, files[p.name])]
    if others:
        raise TargetExistsError(
            f"{folder} is not empty",
            got=f"{others[0].name}, which is not as it would be written",
            expected="a folder that is empty or not there",
            todo=f"give {option('overwrite', True)} to replace the lists in it, or choose another "
            f"{option('output')}",
        )


def write_folder(
    folder: Path,
    files: Mapping[str, bytes],
    *,
    last: str,
    stale: Collection[str] = (),
    overwrite: bool = False,
) -> None:
    """Write files into a folder, ``last`` last; those that are there as they are to be stay.

    In a folder that has others, ``last`` goes before they are replaced, so that it is never beside
    files that are not its own.

    Args:
        folder: The folder, there or not.
        files: Content by name.
        last: The file that describes the others.
        stale: Files to remove if they are there and not in ``files``.
        overwrite: Whether other files of these names may be there.

    Raises:
        InputError: If the folder cannot be written.
        TargetExistsError: If another file of such a name is there and ``overwrite`` is false.
    """
    with together([folder / last]):
        _write(folder, files, last=last, stale=stale, overwrite=overwrite)


def _write(
    folder: Path, files: Mapping[str, bytes], *, last: str, stale: Collection[str], overwrite: bool
) -> None:
    names = sorted(files, key=lambda name: name == last)
    todo = [name for name in names if not holds(folder / name, files[name])]
    gone = [name for name in stale if name not in files and (folder / name).exists()]
    if not (todo or gone):
        return
    if overwrite:
        todo = [*(name for name in todo if name != last), last]
    with atomic_paths([folder / name for name in todo], overwrite=overwrite) as drafts:
        for name, draft in zip(todo, drafts, strict=True):
            draft.write_bytes(files[name])
        for name in (last, *gone) if overwrite else ():
            (folder / name).unlink(missing_ok=True)
