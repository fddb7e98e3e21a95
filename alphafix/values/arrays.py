"""Names of the array types that the whole package speaks of; shapes stand in the docstrings."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
"""An array of any element type."""

FloatArray = npt.NDArray[np.float32]
"""Features, weights, logits: float32."""

FloatArray64 = npt.NDArray[np.float64]
"""Means, sums and figures: float64."""

IntArray = npt.NDArray[np.int64]
"""Class ids, labels, positions and counts: int64."""

BoolArray = npt.NDArray[np.bool_]
"""Which of something: bool."""

ByteArray = npt.NDArray[np.uint8]
"""Bytes of files and pixels: uint8."""


def as_array(values: Any) -> Array:
    """An array of anything like one; a torch tensor may be on any device and need gradients."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() else values
    return np.asarray(values)
