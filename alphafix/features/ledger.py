"""What of an extraction is done: one note a shard, so that it can go on after any interruption.

While an extraction runs, ``partial/`` in the store's folder holds its plan (see
`alphafix.run.artifact`) and one small file for each shard that is written. The manifest gathers
these notes at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alphafix.errors import option
from alphafix.features.shards import Shard
from alphafix.features.store import PARTIAL
from alphafix.files import read_object, sha256_file, write_json
from alphafix.reading.boundary import reading
from alphafix.reading.schema import typed
from alphafix.run.artifact import PLAN


@dataclass(frozen=True)
class Note:
    """What became of one shard's samples.

    Attributes:
        name: The shard's name, without suffix.
        shard: Its file, or None if no sample of it could be used.
        skipped: Id and reason of each image that was left out.
        cut: Number of images whose values were cut to 8 bits.
        data: Fingerprint of the samples as they were when they were read.
    """

    name: str
    shard: Shard | None
    skipped: tuple[tuple[str, str], ...] = ()
    cut: int = 0
    data: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data, without the name."""
        return {
            "shard": None if self.shard is None else vars(self.shard),
            "skipped": [list(pair) for pair in self.skipped],
            "cut": self.cut,
            "data": self.data,
        }


class Ledger:
    """The notes of one store.

    Args:
        folder: The store's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes = folder / PARTIAL

    def done(self, name: str, data: Callable[[], str]) -> Note | None:
        """The note of a shard whose file is there and undamaged.

        Args:
            name: The shard's name.
            data: Gives the fingerprint of its samples; with another one it is to be made anew.
        """
        path = self.notes / f"{name}.json"
        if not path.is_file():
            return None
        note = _read_note(path)
        if note.data != data():
            return None
        if note.shard is not None:
            file = self.folder / note.shard.file
            if not file.is_file() or sha256_file(file) != note.shard.sha256:
                return None
        return note

    def write(self, note: Note) -> None:
        """Note that a shard is done; its file must be in place."""
        write_json(self.notes / f"{note.name}.json", note.to_dict(), overwrite=True)

    def begun(self) -> bool:
        """Whether any shard is done."""
        return bool(self._paths())

    def keep(self, names: Collection[str]) -> None:
        """Remove shards that are not among ``names``: of data that has become less."""
        for path in self._paths():
            if path.stem not in names:
                path.unlink()
                (self.folder / f"{path.stem}.safetensors").unlink(missing_ok=True)

    def _paths(self) -> list[Path]:
        return [path for path in sorted(self.notes.glob("*.json")) if path.name != PLAN]

    def read(self) -> list[Note]:
        """All notes, in the order of the shards."""
        return [_read_note(path) for path in self._paths()]


def _read_note(path: Path) -> Note:
    todo = f"extract again with {option('overwrite', True)}"
    with reading(path, "a note of an extraction", todo=todo):
        return typed(Note, {"name": path.stem, **read_object(path)})
