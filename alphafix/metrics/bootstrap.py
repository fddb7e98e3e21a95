"""Bootstrap over samples, stratified by class (Efron and Tibshirani 1993, chapter 13)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from alphafix.progress import Progress, silent
from alphafix.reading.schema import typed
from alphafix.values.arrays import FloatArray64, IntArray
from alphafix.values.labels import ByClass

LEVEL = 0.95


@dataclass(frozen=True)
class Resampling:
    """How often samples are drawn anew.

    Attributes:
        draws: Number of draws.
        seed: Their seed.
    """

    draws: int = 1000
    seed: int = 0

    def to_dict(self) -> dict[str, int]:
        """Return JSON data."""
        return {"bootstrap_draws": self.draws, "seed": self.seed}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Resampling:
        """Read what `to_dict` gave.

        Raises:
            KeyError: If an entry is missing.
            ValueError: If one is of another type.
        """
        return typed(cls, {"draws": data["bootstrap_draws"], "seed": data["seed"]}, "settings")


def stratified_draws(labels: IntArray, resampling: Resampling) -> Iterator[IntArray]:
    """Yield resamplings of N samples: int64 of shape N, class sizes unchanged.

    Each class keeps its number of samples, because a test set fixes it: what varies is which
    samples of the class were collected.
    """
    rng = np.random.default_rng(resampling.seed)
    groups = ByClass.of(labels)
    sizes = groups.sizes
    first, size = np.repeat(groups.starts[:-1], sizes), np.repeat(sizes, sizes)
    for _ in range(resampling.draws):
        yield groups.order[first + (rng.random(len(labels)) * size).astype(np.int64)]


def bootstrap(
    statistic: Callable[[IntArray], FloatArray64],
    labels: IntArray,
    resampling: Resampling,
    *,
    progress: Progress = silent,
) -> FloatArray64:
    """Return ``statistic`` of each resampling, float64 of shape draws x S."""
    values = []
    with progress("bootstrap", resampling.draws) as advance:
        for index in stratified_draws(labels, resampling):
            values.append(statistic(index))
            advance(1)
    return np.stack(values)


def interval(values: FloatArray64) -> tuple[FloatArray64, FloatArray64]:
    """Lower and upper end of the central 95% of draws x S bootstrap values, each of shape S.

    Columns of NaN (a figure without classes) stay NaN.
    """
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(values, [tail, 100 - tail], axis=0)
    return low, high
