"""Changes of a file as replaced byte ranges, so that all else can be left as it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Splice:
    """Put ``data`` in the place of ``length`` bytes at ``offset``."""

    offset: int
    length: int
    data: bytes

    @property
    def end(self) -> int:
        """Where the replaced bytes end."""
        return self.offset + self.length

    @property
    def moves(self) -> bool:
        """Whether what follows moves."""
        return self.length != len(self.data)


def in_order(splices: Iterable[Splice]) -> tuple[Splice, ...]:
    """Sort by offset and join neighbours, so that each is one write.

    Raises:
        ValueError: If two of them overlap.
    """
    joined: list[Splice] = []
    run: list[Splice] = []
    for splice in sorted(splices, key=lambda s: s.offset):
        if run and splice.offset < run[-1].end:
            raise ValueError("two replacements of the same bytes")
        if run and run[-1].end != splice.offset:
            joined.append(_join(run))
            run = []
        run.append(splice)
    return (*joined, _join(run)) if run else tuple(joined)


def _join(run: Sequence[Splice]) -> Splice:
    return Splice(run[0].offset, sum(s.length for s in run), b"".join(s.data for s in run))
