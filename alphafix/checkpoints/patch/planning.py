"""What a patch would change: decided and checked in full before the first write."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from alphafix.checkpoints.formats.format import Checkpoint, Splices
from alphafix.checkpoints.formats.opening import open_checkpoint
from alphafix.checkpoints.formats.sections import section_of
from alphafix.checkpoints.formats.splices import Splice, in_order
from alphafix.checkpoints.formats.tensors import Tensor, decode, encode
from alphafix.checkpoints.head.matching import match_head
from alphafix.checkpoints.head.stored import Stored, effective, invert, read_stored
from alphafix.checkpoints.patch.rows import row_splices
from alphafix.errors import InputError, call, counted, option
from alphafix.values.arrays import FloatArray, IntArray
from alphafix.values.correction import Correction
from alphafix.values.head import Head, HeadSource


@dataclass(frozen=True)
class RowChange:
    """New rows of one tensor.

    Attributes:
        tensor: The tensor.
        transposed: Whether its rows are stored as columns.
        rows: What to store, float32 of shape R x D_e (or R for biases), before rounding.
    """

    tensor: Tensor
    transposed: bool
    rows: FloatArray

    @property
    def num_classes(self) -> int:
        """C, the number of rows that the tensor has."""
        return self.tensor.shape[1 if self.transposed else 0]

    @property
    def rounded(self) -> FloatArray:
        """The rows as the file's element type holds them."""
        return decode(encode(self.rows, self.tensor.dtype), self.tensor.dtype)


@dataclass(frozen=True)
class PatchPlan:
    """All changes of a checkpoint.

    Attributes:
        checkpoint: The file.
        source: Where its head is.
        classes: The R class ids whose rows change.
        changes: The tensors that change.
    """

    checkpoint: Checkpoint
    source: HeadSource
    classes: IntArray
    changes: tuple[RowChange, ...]

    def splices(self) -> Splices:
        """The bytes to replace, by file."""
        found: dict[Path, list[Splice]] = defaultdict(list)
        for change in self.changes:
            found[change.tensor.file] += row_splices(
                change.tensor, self.classes, change.rows, transposed=change.transposed
            )
        return {file: in_order(splices) for file, splices in found.items()}

    def written(self, correction: Correction) -> Correction:
        """The correction as the head gives it after rounding to the file's element type."""
        stored = read_stored(self.checkpoint, self.source)
        experts = len(self.source.weights)
        rounded = [change.rounded for change in self.changes]
        own = Stored(
            weights=tuple(rounded[:experts]),
            biases=tuple(rounded[experts:]) or tuple(b[self.classes] for b in stored.biases),
            scales=np.broadcast_to(stored.scales, len(stored.weights[0]))[self.classes],
        )
        head = effective(own, self.source)
        biases = None if correction.biases is None else head.bias_or_zeros
        return replace(correction, rows=head.weight, biases=biases)


def make_plan(
    file: Path,
    head: Head,
    correction: Correction,
    *,
    name: str | None = None,
    direction_only: bool = False,
) -> PatchPlan:
    """Decide what to write, with all checks.

    Args:
        file: The file to patch.
        head: The head that the correction was made for.
        correction: The corrected rows and biases.
        name: Name of the head's layer, if the user gave one.
        direction_only: See `alphafix.checkpoints.head.stored.invert`.

    Raises:
        InputError: If the head is not in the file, is shared with another tensor, or cannot
            hold the correction.
        FileFormatError: If the file is damaged.
    """
    own = head.source.weights[0] if head.source else ""
    checkpoint = open_checkpoint(file, section=section_of(name or own))
    corrected = correction.apply(head)
    try:
        source = match_head(checkpoint, head, name=name)
    except InputError:
        _refuse_patched(checkpoint, corrected, name)
        raise
    stored = read_stored(checkpoint, source)
    rows, biases = invert(stored, source, correction, direction_only=direction_only)
    names = (*source.weights, *(source.biases if biases else ()))
    changes = tuple(
        RowChange(checkpoint.tensor(tensor), is_turned(source, tensor), values)
        for tensor, values in zip(names, [*rows, *biases], strict=True)
    )
    for change in changes:
        require_own(checkpoint, change.tensor)
        require_range(change, correction.classes)
    return PatchPlan(checkpoint, source, correction.classes, changes)


def is_turned(source: HeadSource, name: str) -> bool:
    """Whether the rows of a tensor of the head are stored as columns."""
    return source.transposed and name in source.weights


def _refuse_patched(checkpoint: Checkpoint, corrected: Head, name: str | None) -> None:
    try:
        match_head(checkpoint, corrected, name=name)
    except InputError:
        return  # it is really another model
    raise InputError(
        f"{checkpoint.path} holds the corrected rows already",
        got="a patched file",
        expected="the original",
        todo=f"use it as it is, or give the original ({call('patch', revert=True)} restores one "
        f"that was patched with {option('in_place', True)})",
    )


# Names of embeddings, with which language models share the weights of their last layer; a
# safetensors file then holds only one of the two.
_EMBEDDING_WORDS = ("embed", "wte", "word_embeddings")


def require_own(checkpoint: Checkpoint, tensor: Tensor) -> None:
    """Check that nothing else uses the bytes of a tensor.

    Raises:
        InputError: If something does.
    """
    tied = any(word in tensor.name.lower() for word in _EMBEDDING_WORDS)
    if tensor.users or tied:
        users = ", ".join(tensor.users[:3]) or "the embedding of that name"
        rows = len(tensor.shape) == 1  # a bias: rows may be corrected without it
        raise InputError(
            f"tensor {tensor.name} of {checkpoint.path} is shared",
            got=f"{users} uses the same bytes",
            expected="a head of its own",
            todo="changing it would change the other one too; "
            + (
                f"train without it ({option('learn_bias', False)}), or export the model again so "
                "that each layer has a bias of its own"
                if rows
                else "untie them (an embedding tied to the head, perhaps) and save the model again"
            ),
        )


def require_range(change: RowChange, classes: IntArray) -> None:
    """Check that new rows have the shape of the tensor's and fit its element type.

    Raises:
        InputError: If they do not.
    """
    shape = change.tensor.shape[:1] if change.transposed else change.tensor.shape[1:]
    wanted = (len(classes), int(np.prod(shape)))
    if (len(change.rows), change.rows[:1].size) != (wanted[0], wanted[1] if len(classes) else 0):
        raise InputError(
            f"new rows do not fit the tensor {change.tensor.name}",
            got=f"shape {change.rows.shape} for {counted(len(classes), 'class')}",
            expected=f"{wanted[0]} rows of {wanted[1]} numbers",
            todo="the correction or delta is damaged or belongs to another model",
        )
    finite = np.isfinite(change.rounded).reshape(len(classes), -1).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise InputError(
            f"a corrected value is not finite, or too large for {change.tensor.dtype}",
            got=f"{np.abs(change.rows[row]).max():.4g} in {change.tensor.name}, "
            f"class {classes[row]}",
            expected="values that the file's element type can hold",
            todo="patch the float32 or bfloat16 model",
        )
