"""From the tensors of a file to the head in effect, and from corrected rows back to the file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from alphafix.checkpoints.tensors import Checkpoint, Tensor, read_values
from alphafix.head import Head, HeadSource

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Stored:
    """A head's tensors as they stand in the file, in float32.

    Attributes:
        weights: E arrays of C x D_e.
        biases: E arrays of C, or none.
        scales: Row scales, C (or 1 for all rows).
    """

    weights: tuple[FloatArray, ...]
    biases: tuple[FloatArray, ...]
    scales: FloatArray


def read_stored(checkpoint: Checkpoint, source: HeadSource) -> Stored:
    """Read the tensors that ``source`` names.

    Raises:
        InputError: If one is not there or holds no plain real numbers.
    """
    scales = np.ones(1, dtype=np.float32)
    if source.scales is not None:
        scales = read_values(checkpoint.tensor(source.scales)).reshape(-1)
    return Stored(
        tuple(_rows(checkpoint.tensor(name), source) for name in source.weights),
        tuple(read_values(checkpoint.tensor(name)).reshape(-1) for name in source.biases),
        scales,
    )


def _rows(tensor: Tensor, source: HeadSource) -> FloatArray:
    values = read_values(tensor).reshape(tensor.shape[:2])
    return np.ascontiguousarray(values.T) if source.transposed else values


def effective(stored: Stored, source: HeadSource, *, scale: float = 1.0) -> Head:
    """Return the head that the stored tensors make, C x D (see `HeadSource`)."""
    experts = len(stored.weights)
    blocks = []
    for weight in stored.weights:
        rows = weight
        if source.normalised:
            rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        blocks.append(rows * (np.float32(source.factor / experts) * stored.scales[:, None]))
    bias = np.mean(stored.biases, axis=0) * stored.scales if stored.biases else None
    return Head(np.concatenate(blocks, axis=1), bias, scale=scale, source=source)
