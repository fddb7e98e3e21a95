"""What of an extraction is done: one note a shard, so that it can go on after any interruption.

While an extraction runs, ``partial/`` in the store's folder holds ``plan.json`` (what is being
extracted, and how) and one small file for each shard that is written. The manifest gathers
these notes at the end; then ``partial/`` is removed.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alphafix.errors import FileFormatError, TargetExistsError
from alphafix.features.shards import Shard
from alphafix.features.store import MANIFEST
from alphafix.files import digest, read_json, remove_temporary, sha256_file, write_json

PARTIAL = "partial"
PLAN = "plan.json"


@dataclass(frozen=True)
class Note:
    """What became of one shard's samples.

    Attributes:
        name: The shard's name, without suffix.
        shard: Its file, or None if no sample of it could be used.
        skipped: Id and reason of each image that was left out.
    """

    name: str
    shard: Shard | None
    skipped: tuple[tuple[str, str], ...] = ()


class Ledger:
    """The notes of one store.

    Args:
        folder: The store's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes = folder / PARTIAL

    def finished(self, plan: Mapping[str, Any]) -> bool:
        """Whether the store is complete and was made exactly as ``plan`` says."""
        path = self.folder / MANIFEST
        return path.is_file() and digest(read_json(path).get("provenance")) == digest(plan)

    def check(self, plan: Mapping[str, Any], *, overwrite: bool) -> None:
        """Refuse to go on with what was begun otherwise.

        Raises:
            TargetExistsError: If the store, or a part of it, is there and was made with other
                options, and ``overwrite`` is false.
        """
        if overwrite:
            return
        for path in (self.folder / MANIFEST, self.notes / PLAN):
            if path.is_file():
                data = read_json(path)
                earlier = data.get("provenance") if path.name == MANIFEST else data
                if digest(earlier) != digest(plan):
                    raise TargetExistsError(
                        f"{self.folder} was made with other options",
                        got=_difference(earlier or {}, plan),
                        expected="the same options as before",
                        todo="give --overwrite to extract it again, or another --run",
                    )

    def begin(self, plan: Mapping[str, Any]) -> None:
        """Go on if ``plan`` was begun; otherwise clear the folder and write it down."""
        path = self.notes / PLAN
        if path.is_file() and digest(read_json(path)) == digest(plan):
            (self.folder / MANIFEST).unlink(missing_ok=True)
            for folder in (self.folder, self.notes):
                remove_temporary(folder)
            return
        if self.folder.is_dir():
            # The manifest first: without it, nothing takes the rest for a store.
            (self.folder / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(self.folder)
        write_json(path, plan)

    def done(self, name: str) -> Note | None:
        """The note of a shard whose file is there and undamaged."""
        path = self.notes / f"{name}.json"
        if not path.is_file():
            return None
        note = _read_note(path)
        if note.shard is not None:
            file = self.folder / note.shard.file
            if not file.is_file() or sha256_file(file) != note.shard.sha256:
                return None
        return note

    def write(self, note: Note) -> None:
        """Note that a shard is done; its file must be in place."""
        data = {
            "shard": None if note.shard is None else vars(note.shard),
            "skipped": [list(pair) for pair in note.skipped],
        }
        write_json(self.notes / f"{note.name}.json", data, overwrite=True)

    def read(self) -> list[Note]:
        """All notes, in the order of the shards."""
        return [_read_note(p) for p in sorted(self.notes.glob("*.json")) if p.name != PLAN]

    def clear(self) -> None:
        """Remove the notes, which the manifest has gathered."""
        shutil.rmtree(self.notes, ignore_errors=True)


def _read_note(path: Path) -> Note:
    data = read_json(path)
    try:
        shard = None if data["shard"] is None else Shard(**data["shard"])
        skipped = tuple((str(a), str(b)) for a, b in data["skipped"])
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(
            f"{path} is damaged", got=repr(error), todo="extract again with --overwrite"
        ) from error
    return Note(path.stem, shard, skipped)


def _difference(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The entries that differ, in words."""
    found = []
    for part in ("options", "versions"):
        old, new = dict(earlier.get(part) or {}), dict(now.get(part) or {})
        found += [
            f"{name} {old.get(name)!r}, now {new.get(name)!r}"
            for name in dict.fromkeys([*old, *new])
            if old.get(name) != new.get(name)
        ]
    return "; ".join(found) or "something else"
