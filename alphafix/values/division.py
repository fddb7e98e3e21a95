"""Which part of a whole one job of a job array does."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Division:
    """Every ``count``-th shard, from number ``index`` on.

    Attributes:
        index: 0..count - 1.
        count: Number of jobs; 1 is the whole.
    """

    index: int = 0
    count: int = 1

    @property
    def folder(self) -> str:
        """Name of the part's folder."""
        return f"{self.index:05d}-of-{self.count:05d}"

    @classmethod
    def of(cls, folder: str) -> Division | None:
        """The part that a folder is of by its name, or None where it has another one."""
        found = re.fullmatch("([0-9]+)-of-([0-9]+)", folder)
        return None if found is None else cls(int(found[1]), int(found[2]))
