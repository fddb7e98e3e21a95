"""Many short texts in two arrays: a tenth of the memory of a list, shared by processes."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from alphafix.values.arrays import IntArray


@dataclass(frozen=True)
class Texts:
    """N texts, by number.

    Attributes:
        data: Their UTF-8 (names of files that are no valid UTF-8 survive), end to end.
        ends: Where each ends, int64 of shape N.
    """

    data: bytes
    ends: IntArray

    @classmethod
    def pack(cls, texts: Iterable[str]) -> Texts:
        """Pack texts, without holding all of them at once."""
        data, ends = bytearray(), array("q")
        for text in texts:
            data += text.encode("utf-8", "surrogateescape")
            ends.append(len(data))
        return cls(bytes(data), np.frombuffer(ends, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> str:
        start = int(self.ends[index - 1]) if index > 0 else 0
        return self.data[start : int(self.ends[index])].decode("utf-8", "surrogateescape")
