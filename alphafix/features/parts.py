"""One job's part of a split, of a job array whose jobs know nothing of one another.

A part is a folder with some of the shards of a store, as one extraction would name and fill them,
and a ``part.json`` that is written last. `alphafix.features.merging` makes one store of all parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from alphafix.errors import FileFormatError, call, option
from alphafix.features.ledger import Note
from alphafix.features.verification import require_inside, verify_shards
from alphafix.files import read_object, write_json
from alphafix.reading.boundary import reading
from alphafix.reading.schema import Count, typed
from alphafix.values.division import Division

PART = "part.json"


@dataclass(frozen=True)
class _Stored:
    """The entries of a part.json that are read."""

    index: Count
    count: Count
    groups: Count
    width: Count
    num_classes: Count
    dtype: Literal["float32", "float16", "bfloat16"]
    shards: list[dict[str, Any]]
    info: dict[str, Any]
    provenance: dict[str, Any]


@dataclass(frozen=True)
class Part:
    """One job's part of a split.

    Attributes:
        folder: Where its shards are.
        division: Which part it is.
        groups: Number of groups of the source (see `alphafix.images.source.ImageSource`).
        width: D.
        num_classes: C.
        dtype: Stored element type.
        notes: What became of each shard's samples, in order.
        info: What the manifest of the whole is to say besides.
        plan: How it was made.
    """

    folder: Path
    division: Division
    groups: int
    width: int
    num_classes: int
    dtype: str
    notes: tuple[Note, ...]
    info: Mapping[str, Any] = field(default_factory=dict)
    plan: Mapping[str, Any] = field(default_factory=dict)

    @property
    def samples(self) -> int:
        """Number of stored samples."""
        return sum(note.shard.samples for note in self.notes if note.shard is not None)

    @property
    def skipped(self) -> int:
        """Number of images that were left out."""
        return sum(len(note.skipped) for note in self.notes)

    @property
    def again(self) -> str:
        """The command that makes it anew, in the words of an error."""
        numbers = {"shard_index": self.division.index, "shard_count": self.division.count}
        return call("extract", **numbers, overwrite=True)

    def save(self) -> None:
        """Write part.json; the shards must be in place."""
        data = {
            "value": "part of features",
            **vars(self.division),
            "groups": self.groups,
            "width": self.width,
            "num_classes": self.num_classes,
            "dtype": self.dtype,
            "shards": [{"name": note.name, **note.to_dict()} for note in self.notes],
            "info": dict(self.info),
            "provenance": dict(self.plan),
        }
        write_json(self.folder / PART, data, overwrite=True)

    @classmethod
    def open(cls, folder: Path) -> Part:
        """Read a finished part.

        Raises:
            FileFormatError: If it is damaged, or a shard is missing.
        """
        part = cls.read(folder)
        require_inside(folder, [note.shard for note in part.notes if note.shard is not None])
        return part

    @classmethod
    def read(cls, folder: Path) -> Part:
        """Read what is said of a finished part, wherever its shards are.

        Raises:
            FileFormatError: If it is damaged.
        """
        path = folder / PART
        todo = f"extract this part again with {option('overwrite', True)}"
        with reading(path, "a part of features", todo=todo):
            data = read_object(path)
            names = _Stored.__dataclass_fields__
            stored = typed(_Stored, {name: data.get(name) for name in names})
            notes = tuple(typed(Note, note) for note in stored.shards)
        return cls(
            folder=folder,
            division=Division(stored.index, stored.count),
            groups=stored.groups,
            width=stored.width,
            num_classes=stored.num_classes,
            dtype=stored.dtype,
            notes=notes,
            info=stored.info,
            plan=stored.provenance,
        )

    def verify(self) -> None:
        """Compare each shard with its hash.

        Raises:
            FileFormatError: If one differs.
        """
        shards = [note.shard for note in self.notes if note.shard is not None]
        verify_shards(self.folder, shards, anew=True)

    def require_complete(self) -> None:
        """Check that the shards are those of this part, all of them.

        Raises:
            FileFormatError: If one is missing, or another's.
        """
        names = [note.name for note in self.notes]
        expected = _names(names, self.division, many=self.groups > 1)
        if names != expected:
            raise FileFormatError(
                f"{self.folder / PART} lists other shards than those of its part",
                got=", ".join(sorted(set(names) ^ set(expected))[:5]) or "another order",
                expected=f"every {self.division.count}th, from number {self.division.index} on",
                todo=f"run {self.again}",
            )


def _names(names: list[str], division: Division, *, many: bool) -> list[str]:
    """What the shards of a part are called, as far as the last that is there."""
    if not many:
        return [f"{division.index + i * division.count:06d}" for i in range(len(names))]
    found = []
    by_group: dict[int, int] = {}
    for name in names:
        before = name.partition("-")[0]
        if before.isdecimal():
            by_group[int(before)] = by_group.get(int(before), 0) + 1
    for group, count in sorted(by_group.items()):
        if group % division.count == division.index:
            found += [f"{group:06d}-{i:06d}" for i in range(count)]
    return found
