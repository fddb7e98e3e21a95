"""What the page's slider moves: every prediction of some methods at every offset, packed.

A sample's answer is its best few-split class or its best other class, by the margin between
them; these three numbers are packed as arrays of bytes, each array once, however many methods
share it (few-split corrections leave the best other class as it is).
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from alphafix.metrics.margins import Margins, Steered
from alphafix.values.arrays import Array, IntArray

# Bytes of packed arrays that a page may hold: about four methods with 50,000 samples, in 5 MB.
MOST_BYTES = 2_000_000


@dataclass(frozen=True)
class Steering:
    """The methods that the slider moves, the first of them as it is in the run directory.

    Attributes:
        methods: Their names, offsets and commands, as JSON data, with the places of their arrays.
        arrays: The packed arrays, as JSON data.
        left_out: Names of methods that there was no room for.
    """

    methods: Sequence[Mapping[str, Any]]
    arrays: Sequence[Mapping[str, str]]
    left_out: Sequence[str] = ()


def steering(
    labels: IntArray,
    before: Margins,
    methods: Sequence[Steered],
    run: str,
    *,
    most: int = MOST_BYTES,
) -> tuple[Steering, dict[str, Any]]:
    """Pack methods, as many as there is room for.

    Args:
        labels: True classes, int64 of shape N.
        before: Margins of the base head.
        methods: The methods, the one that ships first.
        run: The run directory, for the commands.
        most: Bytes that the arrays may take.

    Returns:
        The methods, and JSON data of the labels and of the base head.
    """
    packed = _Packed()
    known = {"labels": packed.add(labels), "before": packed.margins(before)}
    said: list[dict[str, Any]] = []
    left_out: list[str] = []
    for one in methods:
        mark = packed.mark()
        places = packed.margins(one.margins)
        if packed.size > most and said:
            packed.back_to(mark)
            left_out.append(one.name)
            continue
        said.append(
            {
                "name": one.name,
                "offset": one.offset,
                "command": command(run, one.train),
                **places,
            }
        )
    return Steering(said, packed.arrays, left_out), known


def command(run: str, train: Mapping[str, Any] | None) -> str | None:
    """The command that trains a method, up to the point that it is moved to; None without one.

    Args:
        run: The run directory.
        train: Options of `alphafix train`; empty for the correction that is there.
    """
    if train is None:
        return None
    words = ["alphafix", "train", "--run", run]
    if train:
        words += ["--overwrite", "--allow-worse"]
    for name, value in train.items():
        words += [f"--{name.replace('_', '-')}", str(value).removesuffix(".0")]
    return shlex.join([*words, "--at"])


@dataclass
class _Packed:
    """Arrays as base64, each one once."""

    arrays: list[dict[str, str]] = field(default_factory=list)
    places: dict[tuple[str, bytes], int] = field(default_factory=dict)
    size: int = 0

    def add(self, array: Array) -> int:
        """The place of an array."""
        small = _small(array)
        key = (small.dtype.str, small.tobytes())
        if key not in self.places:
            data = base64.b64encode(key[1]).decode()
            self.places[key] = len(self.arrays)
            self.arrays.append({"type": small.dtype.str[1:], "data": data})
            self.size += len(data)
        return self.places[key]

    def margins(self, found: Margins) -> dict[str, int]:
        return {name: self.add(getattr(found, name)) for name in ("gap", "few", "other")}

    def mark(self) -> tuple[int, int]:
        return len(self.arrays), self.size

    def back_to(self, mark: tuple[int, int]) -> None:
        count, self.size = mark
        del self.arrays[count:]
        self.places = {key: place for key, place in self.places.items() if place < count}


def _small(array: Array) -> Array:
    """Little-endian, ids in two bytes where these are enough."""
    if array.dtype.kind == "f":
        return array.astype("<f4")
    return array.astype("<u2" if array.max(initial=0) < 1 << 16 else "<u4")
