"""An unpickler whose memory grows with the file that it reads, not with a number in it.

Python's unpickler in C reserves what an index or a length says: 8 bytes make it take 8 GB. The one
in Python, with reads that end where the file does, does not. Whoever derives from it says what the
names in a pickle stand for; by itself it knows none.
"""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Callable, Iterable
from typing import IO, Any, ClassVar

_Python: Any = pickle._Unpickler

# Of a name: far more than the pairs and triples that are names somewhere.
_MOST_PARTS = 1000

# Reads of so many bytes need no look at where the file ends: they only come back shorter.
_SMALL = 1 << 16


class _Bounded:
    """A file of which no more can be asked than there is."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        place = file.tell()
        self._end = file.seek(0, os.SEEK_END)
        file.seek(place)
        self.readline = file.readline

    def read(self, count: int) -> bytes:
        if count > _SMALL and count > self._end - self._file.tell():
            raise pickle.UnpicklingError(f"{count:,} bytes behind the end of the file")
        return self._file.read(count)

    def readinto(self, buffer: Any) -> int:
        raise pickle.UnpicklingError("a buffer beside the file")


class Unpickler(_Python):  # type: ignore[misc]
    """Reads one object of a file; see `pickle.Unpickler` for the methods to override.

    Args:
        file: The file, which must be seekable.
        encoding: Of texts of Python 2.
    """

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(_Python.dispatch)
    stack: list[Any]

    def __init__(self, file: IO[bytes], *, encoding: str) -> None:
        super().__init__(_Bounded(file), encoding=encoding)

    def find_class(self, module: str, name: str) -> Any:
        """Refuse a name.

        Raises:
            pickle.UnpicklingError: Always.
        """
        raise pickle.UnpicklingError(f"{module}.{name}")

    def load_build(self) -> None:
        """Set a state, of what has the method ``set_state`` alone.

        Raises:
            pickle.UnpicklingError: For a state of anything else.
        """
        state = self.stack.pop()
        take = getattr(self.stack[-1], "set_state", None)
        if take is None:
            raise pickle.UnpicklingError("a state of something that has none")
        take(state)

    def load_bytearray8(self) -> None:
        """Take bytes that are there; Python's own method reserves them before it reads."""
        (count,) = struct.unpack("<Q", self.read(8))
        self.stack.append(bytearray(self.read(count)))

    def load_setitem(self) -> None:
        """Set one item of a dictionary."""
        require_plain_keys(self.stack[-2:-1])
        super().load_setitem()

    def load_setitems(self) -> None:
        """Set items of a dictionary."""
        require_plain_keys(self.stack[::2])  # since the mark: names and values by turns
        super().load_setitems()

    def load_dict(self) -> None:
        """Make a dictionary."""
        require_plain_keys(self.stack[::2])
        super().load_dict()

    def load_additems(self) -> None:
        """Add to a set."""
        require_plain_keys(self.stack)
        super().load_additems()

    def load_frozenset(self) -> None:
        """Make a set."""
        require_plain_keys(self.stack)
        super().load_frozenset()

    for _code, _load in (
        (pickle.BUILD, load_build),
        (pickle.BYTEARRAY8, load_bytearray8),
        (pickle.SETITEM, load_setitem),
        (pickle.SETITEMS, load_setitems),
        (pickle.DICT, load_dict),
        (pickle.ADDITEMS, load_additems),
        (pickle.FROZENSET, load_frozenset),
    ):
        dispatch[_code[0]] = _load


def require_plain_keys(keys: Iterable[Any]) -> None:
    """Refuse names that are tuples of tuples of tuples, which may take 2^n steps to hash.

    Raises:
        pickle.UnpicklingError: If a key has more parts than `_MOST_PARTS`.
    """
    for key in keys:
        parts, count = [key], 0
        while parts:
            part = parts.pop()
            count += 1
            if isinstance(part, tuple):
                parts += part
            if count > _MOST_PARTS:
                raise pickle.UnpicklingError("a name of tuples within tuples")
