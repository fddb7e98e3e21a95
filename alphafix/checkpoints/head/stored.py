"""From the tensors of a file to the head in effect, and from corrected rows back to the file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alphafix.checkpoints.formats.format import Checkpoint
from alphafix.checkpoints.formats.tensors import Tensor, read_values
from alphafix.errors import InputError, counted, option
from alphafix.values.arrays import FloatArray, IntArray
from alphafix.values.correction import Correction
from alphafix.values.head import Head, HeadSource


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
        InputError: If one is not there, or holds no plain real numbers or NaN or inf.
    """
    scales = np.ones(1, dtype=np.float32)
    if source.scales is not None:
        scales = _finite(checkpoint.tensor(source.scales), classes_axis=0).reshape(-1)
    return Stored(
        tuple(_rows(checkpoint.tensor(name), source) for name in source.weights),
        tuple(_finite(checkpoint.tensor(n), classes_axis=0).reshape(-1) for n in source.biases),
        scales,
    )


def _rows(tensor: Tensor, source: HeadSource) -> FloatArray:
    values = _finite(tensor, classes_axis=1 if source.transposed else 0)
    values = values.reshape(tensor.shape[:2])
    return np.ascontiguousarray(values.T) if source.transposed else values


def _finite(tensor: Tensor, *, classes_axis: int) -> FloatArray:
    values = read_values(tensor)
    wrong = np.unique(np.nonzero(~np.isfinite(values))[classes_axis])
    if len(wrong):
        raise InputError(
            f"tensor {tensor.name} of {tensor.file} has values that are not finite",
            got=f"{counted(len(wrong), 'row')} with NaN or inf, first: class {wrong[0]}",
            expected="finite numbers",
            todo="use a checkpoint from before the training diverged",
        )
    return values


def effective(stored: Stored, source: HeadSource, *, scale: float = 1.0) -> Head:
    """Return the head that the stored tensors make, C x D (see `HeadSource`)."""
    experts = len(stored.weights)
    blocks = []
    for weight in stored.weights:
        rows = weight
        if source.normalised:
            norms = np.linalg.norm(rows, axis=1, keepdims=True)
            rows = np.divide(rows, np.maximum(norms, 1e-12), dtype=np.float32)
        blocks.append(rows * (np.float32(source.factor / experts) * stored.scales[:, None]))
    bias = None
    if stored.biases:
        bias = np.mean(stored.biases, axis=0) * (np.float32(source.bias_factor) * stored.scales)
    return Head(np.concatenate(blocks, axis=1), bias, scale=scale, source=source)


def invert(
    stored: Stored,
    source: HeadSource,
    correction: Correction,
    *,
    direction_only: bool = False,
) -> tuple[list[FloatArray], list[FloatArray]]:
    """Return the rows and biases to store, so that `effective` gives the correction's.

    Args:
        stored: What the file holds now.
        source: How it makes the head.
        correction: R classes with rows of width D and biases.
        direction_only: For rows that the model normalises when it runs: write their
            direction although their length is lost.

    Returns:
        E arrays of R x D_e rows, and as many arrays of R biases as the head has (none if the
        correction leaves the biases alone).

    Raises:
        InputError: If the head cannot hold the correction: no biases, rows of scale 0, or
            rows whose length the model does not use.
    """
    classes, experts = correction.classes, len(stored.weights)
    scales = np.broadcast_to(stored.scales, len(stored.weights[0]))[classes]
    if (scales == 0).any():
        raise InputError(
            f"rows of class {classes[scales == 0][0]} are multiplied by a scale of 0",
            got=f"0 in {source.scales}",
            expected="scales other than 0",
            todo="the head ignores this class; set its scale in the model first",
        )
    factor = np.float32(source.factor / experts) * scales[:, None]
    rows = []
    for weight, block in zip(
        stored.weights, np.split(correction.rows, experts, axis=1), strict=True
    ):
        new = block / factor
        if source.normalised:
            new = _directions(new, weight[classes], classes, direction_only=direction_only)
        rows.append(new.astype(np.float32))
    return rows, _bias_rows(stored, correction, np.float32(source.bias_factor) * scales)


# Rows count as of norm 1 up to this: far below what a correction changes, above rounding.
NORM_TOLERANCE = 1e-3


def _directions(
    rows: FloatArray, old: FloatArray, classes: IntArray, *, direction_only: bool
) -> FloatArray:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    worst = int(np.argmax(np.abs(norms - 1)))
    if (norms == 0).any() or (abs(norms[worst, 0] - 1) > NORM_TOLERANCE and not direction_only):
        raise InputError(
            "the model divides each row by its norm when it runs, so that the length of a "
            "corrected row would be lost",
            got=f"the row of class {classes[worst]}, {norms[worst, 0]:.4g} times as long",
            expected="rows as long as the base model's",
            todo=f"give {option('direction_only', True)} to write the directions alone (the effect "
            "on validation accuracy is shown), or use a model whose last layer does not normalise",
        )
    lengths = np.linalg.norm(old, axis=1, keepdims=True)
    kept: FloatArray = rows / norms * np.where(lengths > 0, lengths, 1)
    return kept


def _bias_rows(stored: Stored, correction: Correction, scales: FloatArray) -> list[FloatArray]:
    if correction.biases is None:
        return []
    if not stored.biases:
        if not correction.biases.any():
            return []
        raise InputError(
            "the correction changes biases, but the head has none",
            got=f"biases up to {np.abs(correction.biases).max():.4g}",
            expected="a head with a bias, or a correction without",
            todo=f"train with {option('learn_bias', False)} (and without {option('calibrate')}), "
            "or give the model's last layer a bias of zeros and extract again",
        )
    # The mean over experts moves to the new value; what they differ by stays.
    old = [bias[correction.classes] for bias in stored.biases]
    shift = correction.biases / scales - np.mean(old, axis=0)
    return [(bias + shift).astype(np.float32) for bias in old]
