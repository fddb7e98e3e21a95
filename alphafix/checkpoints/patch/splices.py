"""Changes of a file as replaced byte ranges, so that all else can be left as it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from alphafix.checkpoints.formats.tensors import Tensor, elements, encode, read_raw, row_major
from alphafix.values.arrays import FloatArray, IntArray
from alphafix.values.correction import require_class_ids


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


def row_splices(
    tensor: Tensor, classes: IntArray, rows: FloatArray, *, transposed: bool
) -> tuple[Splice, ...]:
    """Splices that put R x D rows (or R biases) into a tensor, in its own element type.

    Args:
        tensor: C x D, C x D x 1 x 1, D x C if ``transposed``, or C.
        classes: The R rows to replace.
        rows: Their values, float32.
        transposed: Whether the tensor is stored as D x C.

    Raises:
        InputError: If a class is no row of the tensor.
    """
    require_class_ids(classes, tensor.shape[1 if transposed else 0])
    stored = encode(rows, tensor.dtype)
    if transposed or not _rows_are_runs(tensor):
        raw = read_raw(tensor)
        view = elements(tensor, raw)
        if transposed:
            view[:, classes] = stored.T
        else:
            view[classes] = stored.reshape(len(classes), *tensor.shape[1:])
        return (Splice(tensor.offset, len(raw), bytes(raw)),)
    step = tensor.strides[0] * tensor.itemsize
    pieces = (np.ascontiguousarray(row).tobytes() for row in stored)
    return in_order(
        Splice(tensor.offset + int(c) * step, len(piece), piece)
        for c, piece in zip(classes, pieces, strict=True)
    )


def _rows_are_runs(tensor: Tensor) -> bool:
    expected = row_major(tensor.shape)
    return all(
        size == 1 or stride == usual
        for size, stride, usual in zip(
            tensor.shape[1:], tensor.strides[1:], expected[1:], strict=True
        )
    )
