"""One job's part at an address, where no folder can be locked and no file be renamed.

Each file of the part lies at ``ADDRESS/files/SHA256``, and ``ADDRESS/manifest.json``, which is
written last, says which ones make up the part: without it there is none, whatever a killed job has
left. Since a name says what is in the file, two jobs that write the same part change nothing of
each other's; the manifest of the later one counts, and is whole in itself. (Object stores show a
file when all of it is there; sizes and hashes are compared anyway.)
"""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from alphafix import remote
from alphafix.errors import FileFormatError, InputError, TargetExistsError, call, option, some
from alphafix.features.parts import PART, Part
from alphafix.files import json_text, read_object, sha256_file, write_json
from alphafix.locks import make_folders, remove_empty
from alphafix.reading.boundary import reading
from alphafix.reading.schema import Count, parse_json, typed
from alphafix.run.directory import FEATURES, PARTS
from alphafix.shown import without_secrets

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
FILES = "files"

# What a person may give besides the address of a run directory or a part.
_IN_RUN = (f"/{MANIFEST}", f"/{PARTS}")

# In a folder that was fetched: from where, and the hash of the manifest.
_NOTE = ".address.json"

_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class _File:
    """A file of a part."""

    sha256: str
    size: Count


def workplace(run: str, part: str) -> Path:
    """The folder on this machine where a part of a run at an address is made.

    It counts to what the cache may hold, and is one of a part, so that it can go when that is done.
    """
    address = f"{run}/{PARTS}/{part}"
    return remote.cache_folder() / hashlib.sha256(address.encode()).hexdigest()[:32]


def require_place(address: str) -> None:
    """Check, before any work, that a part is at an address, or can be written there.

    Raises:
        InputError: If neither is so.
    """
    remote.require_store(address)
    if not remote.exists(f"{address}/{MANIFEST}"):
        remote.require_writable(address)


def parts_at(address: str) -> list[str]:
    """Addresses of finished parts: of those of a run, or of the part that it is itself.

    Raises:
        InputError: If there is none.
    """
    if remote.exists(f"{address}/{MANIFEST}"):
        return [address]
    if remote.can_list(address):
        below = re.compile(f"[0-9]+-of-[0-9]+/{MANIFEST}")
        start = f"{address}/{PARTS}/"
        names = [entry.address[len(start) :] for entry in remote.entries(start.rstrip("/"))]
        found = [start + name.partition("/")[0] for name in names if below.fullmatch(name)]
        if found:
            return found
        _refuse_whole(address)
        above = next((address.removesuffix(e) for e in _IN_RUN if address.endswith(e)), None)
        raise InputError(
            f"there is no finished part at {address}",
            got=f"no {MANIFEST} there, nor in {PARTS}/*-of-*/ below it",
            expected="the run directory that the jobs were given, or one of its parts",
            todo="run "
            f"{call('extract', run=above or address, shard_index='I', shard_count='N')} for each "
            f"part first, or {'give ' + above if above else 'correct the address'}",
        )
    raise InputError(
        f"there is no finished part at {address}",
        got=f"no {MANIFEST} there",
        expected="the address of one part: a web server lists none",
        todo=f"name each: {address}/{PARTS}/00000-of-00002, and so on",
    )


def _refuse_whole(address: str) -> None:
    """Refuse a run directory that was copied to an address: its features are no part.

    Raises:
        InputError: If there is one.
    """
    start = f"{address}/{FEATURES}/"
    below = (entry.address[len(start) :] for entry in remote.entries(start.rstrip("/")))
    whole = [name for name in below if re.fullmatch(f"[^/]+/{MANIFEST}", name)]
    if whole:
        raise InputError(
            f"{address} holds whole features: there is nothing to merge",
            got=f"{MANIFEST} of {some(PurePosixPath(name).parent for name in whole)}",
            expected="parts of a job array",
            todo=f"copy the folder here and use it as it stands: {call('neighbors', run='DIR')}",
        )


def retrieve(address: str, folder: Path, *, again: bool = False, features: bool = True) -> str:
    """Bring a finished part into a folder, unless the folder is of that part already.

    What an interrupted command has left in the folder goes, unless the part has it too. Where there
    is no part at the address, nothing is done.

    Args:
        address: The part's.
        folder: The folder.
        again: Whether its files are compared with their hashes even so.
        features: Whether all of it is brought; otherwise only what says how it was made.

    Returns:
        What tells the part from a later one at its address; "" if there is none.

    Raises:
        InputError: If a file cannot be read.
        FileFormatError: If one is not what the manifest says.
    """
    data = _manifest(address)
    if data is None:
        return ""
    version = hashlib.sha256(data).hexdigest()
    if _noted(folder) == _told(address, version) and not again:
        return version
    files = _read(address, data)
    if not features:
        _require_sizes(address, files.values())
        files = {name: file for name, file in files.items() if not _is_shard(name)}
    made = make_folders(folder)
    try:
        _note(folder, address, "")
        for path in folder.rglob("*"):
            if path.is_file() and path.relative_to(folder).as_posix() not in {*files, _NOTE}:
                path.unlink()
        # What says that a split is whole comes last.
        for name, file in sorted(files.items(), key=lambda item: item[0].endswith(PART)):
            _fetch(f"{address}/{FILES}/{file.sha256}", folder / name, file)
        _note(folder, address, version)
    except BaseException:
        _forget_unless_begun(folder, made)
        raise
    return version


def _forget_unless_begun(folder: Path, made: Sequence[Path]) -> None:
    """Remove the note of where a folder is fetched from, and what was made, if nothing came."""
    if any(path.is_file() for path in folder.rglob("*") if path != folder / _NOTE):
        return  # what is whole of it is not fetched again
    (folder / _NOTE).unlink(missing_ok=True)
    below = [path for path in folder.rglob("*") if path.is_dir()]
    remove_empty([*made, *sorted(below)])


def publish(
    folder: Path, names: Sequence[str], address: str, earlier: str, *, overwrite: bool
) -> None:
    """Write a finished part to an address: its files, then the manifest.

    Args:
        folder: Where the part is.
        names: Its files beside the features.
        address: Where to.
        earlier: What `retrieve` gave before the part was made.
        overwrite: Whether what is there may be replaced; all is written then, whatever it seems to
            be.

    Raises:
        FileFormatError: If the part is damaged.
        TargetExistsError: If another job has written another part there meanwhile.
        InputError: If a file cannot be written.
    """
    files = {name: folder / name for name in names if (folder / name).is_file()}
    for place in sorted((folder / FEATURES).glob("*/")):
        part = Part.open(place)
        part.verify()
        shards = [note.shard.file for note in part.notes if note.shard is not None]
        files |= {f"{FEATURES}/{place.name}/{name}": place / name for name in [*shards, PART]}
    listed = {name: _File(sha256_file(path), path.stat().st_size) for name, path in files.items()}
    text = {name: asdict(file) for name, file in listed.items()}
    data = json_text({"value": "part at an address", "files": text}).encode()
    if not _may_write(address, data, earlier, overwrite=overwrite):
        return
    for name, file in listed.items():
        _put(files[name], f"{address}/{FILES}/{file.sha256}", anew=overwrite)
    if _may_write(address, data, earlier, overwrite=overwrite):
        _require_sizes(address, listed.values())  # another job may have tidied meanwhile
        remote.write(f"{address}/{MANIFEST}", data)
        _tidy(address, data, {file.sha256 for file in listed.values()})


def _tidy(address: str, data: bytes, named: Collection[str]) -> None:
    """Remove the files that a part has no longer, unless it was replaced again meanwhile."""
    start = f"{address}/{FILES}/"
    left = [e.address for e in remote.entries(start) if e.address[len(start) :] not in named]
    if not left or _manifest(address) != data:
        return
    try:
        for place in left:
            remote.remove(place)
    except InputError as error:  # who may write need not be allowed to remove
        logger.warning("files that the part has no longer stay: %s", error.brief)


def empty(folder: Path) -> None:
    """Remove what is in a folder, if it is there; it stays, for others may wait for its lock."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def noted_address(folder: Path) -> str | None:
    """The address that a folder was fetched from, if it was, without its secrets."""
    return _noted(folder).get("address")


def _may_write(address: str, data: bytes, earlier: str, *, overwrite: bool) -> bool:
    """Whether the part is to be written: not if it is there, just so."""
    there = _manifest(address)
    if overwrite:
        return True
    if there == data:
        return False
    if there is None or hashlib.sha256(there).hexdigest() == earlier:
        return True
    raise TargetExistsError(
        f"another job has written {address} meanwhile",
        got="a finished part with other bytes than this job's",
        expected="one job for each part",
        todo="use that part (give the command again: it says whether it is as asked), or give "
        f"{option('overwrite', True)} to replace it",
    )


def _put(path: Path, address: str, *, anew: bool) -> None:
    """Write a file, unless the store itself says that it has these very bytes (see ``anew``).

    Object stores name what was written at once by its MD5 (unless it is encrypted with a key of the
    user's): what an interrupted try has left is not written again then.
    """
    there = None if anew else remote.entry_if_any(address)
    if there is None or there.size != path.stat().st_size or there.version != _md5(path):
        remote.put(path, address)


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _manifest(address: str) -> bytes | None:
    place = f"{address}/{MANIFEST}"
    return None if remote.entry_if_any(place) is None else remote.read(place)


def _read(address: str, data: bytes) -> Mapping[str, _File]:
    """The files of a part, none of which leads out of its folder."""
    place = f"{address}/{MANIFEST}"
    todo = f"extract this part again with {option('overwrite', True)}"
    with reading(place, "the manifest of a part", todo=todo):
        files = typed(dict[str, _File], typed(dict[str, Any], parse_json(data))["files"])
    for name, file in files.items():
        parts = PurePosixPath(name).parts
        plain = all(part[:1] not in ("", ".", "/") and "\0" not in part for part in parts)
        if not (parts and plain and name == "/".join(parts) and _SHA256.fullmatch(file.sha256)):
            raise FileFormatError(
                f"{place} names a file outside of its part",
                got=f"{name} {file.sha256}",
                expected="names below the part's folder, each with a SHA-256",
                todo="do not use this part: extract it again",
            )
    return files


def _require_sizes(address: str, files: Iterable[_File]) -> None:
    """Check, by what the store says, that all files of a part are there."""
    there = {entry.address: entry.size for entry in remote.entries(f"{address}/{FILES}")}
    for file in files:
        size = there.get(f"{address}/{FILES}/{file.sha256}")
        if size != file.size:
            raise FileFormatError(
                f"{address}/{FILES}/{file.sha256} is not what was written",
                got="no such file" if size is None else f"{size} bytes",
                expected=f"{file.size} bytes",
                todo=f"extract this part again with {option('overwrite', True)}",
            )


def _is_shard(name: str) -> bool:
    """Whether a file of a part has features in it."""
    return name.startswith(f"{FEATURES}/") and not name.endswith(f"/{PART}")


def _fetch(address: str, path: Path, file: _File) -> None:
    """Bring a file to its place, unless it is there."""
    if path.is_file() and path.stat().st_size == file.size and sha256_file(path) == file.sha256:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    found = remote.download(address, path)
    if found != file.sha256:
        path.unlink()
        raise FileFormatError(
            f"{address} has changed since it was written",
            got=f"SHA-256 {found[:12]}",
            expected=file.sha256[:12],
            todo=f"extract this part again with {option('overwrite', True)}",
        )


def _noted(folder: Path) -> dict[str, str]:
    path = folder / _NOTE
    if not path.is_file():
        return {}
    with reading(path, "a note of where a part was fetched from", todo="remove its folder"):
        return typed(dict[str, str], read_object(path))


def _note(folder: Path, address: str, version: str) -> None:
    write_json(folder / _NOTE, _told(address, version), overwrite=True)


def _told(address: str, version: str) -> dict[str, str]:
    return {"address": without_secrets(address), "version": version}
