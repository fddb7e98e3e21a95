"""Rows of a tensor as replaced byte ranges of its file."""

from __future__ import annotations

import numpy as np

from alphafix.checkpoints.formats.splices import Splice, in_order
from alphafix.checkpoints.formats.tensors import Tensor, elements, encode, read_raw, row_major
from alphafix.values.arrays import FloatArray, IntArray
from alphafix.values.correction import require_class_ids


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
