"""Padding of widths, so that a trial is rounded as if it were alone."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

# Kernels treat the last elements of an array, and products of odd sizes, in other ways than
# the rest, so that rounding, and with it a trial, would depend on what else is in the batch.
# All widths are therefore padded to this many floats (64 bytes, the widest vector registers).
# Padding has no gradient, and AdamW leaves what is zero and has no gradient as it is.
ALIGNED = 16


def padding(size: int) -> int:
    """What is missing to a multiple of `ALIGNED`."""
    return -size % ALIGNED


def room(classes: int) -> int:
    """Padding of F few-split classes to F': one column more at the least, and all to `ALIGNED`.

    The first column of it is where the base classes, all as one, meet the few-split classes.
    """
    return padding(classes) or ALIGNED


def padded_classes(array: Tensor) -> Tensor:
    """An array of shape ... x F x n as ... x F' x n: zeros behind (see `room`)."""
    return functional.pad(array, (0, 0, 0, room(array.shape[-2])))
