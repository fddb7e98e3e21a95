"""Known and unknown samples together, as one classifier sees them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alphafix.metrics.predictions import Predictions
from alphafix.values.arrays import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class OpenSamples:
    """One classifier on N known samples followed by U unknown ones.

    Attributes:
        confidence: Largest softmax probability, float32 of shape N + U.
        right: Whether the class is right (false for unknown samples), bool of shape N + U.
        known: Whether the sample is of a known class, bool of shape N + U.
    """

    confidence: FloatArray
    right: BoolArray
    known: BoolArray

    def accepted(self, threshold: float) -> BoolArray:
        """Whether each sample is held for one of a known class, bool of shape N + U."""
        return self.confidence >= np.float32(threshold)

    @classmethod
    def of(cls, labels: IntArray, known: Predictions, unknown: Predictions) -> OpenSamples:
        """Join the predictions on known samples of these labels and on unknown ones."""
        samples, others = len(labels), len(unknown.predicted)
        return cls(
            np.concatenate([known.confidence, unknown.confidence]),
            np.concatenate([known.predicted == labels, np.zeros(others, dtype=np.bool_)]),
            np.arange(samples + others) < samples,
        )
