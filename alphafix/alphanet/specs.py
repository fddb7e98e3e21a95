"""Which trials there are, and everything random about each, drawn from its seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alphafix.alphanet.neighbors import nearest_neighbours, random_neighbours
from alphafix.alphanet.sampling import Pool, draw_epochs, samples_per_epoch
from alphafix.alphanet.trial import Hyper, Trial
from alphafix.values.arrays import FloatArray64, IntArray
from alphafix.values.classes import ClassTable


@dataclass(frozen=True)
class TrialSpec:
    """What distinguishes a trial: rho, K and the seed."""

    rho: float
    k: int
    seed: int


def all_specs(
    rhos: Sequence[float], ks: Sequence[int], seeds: Sequence[int]
) -> tuple[TrialSpec, ...]:
    """All different combinations, seeds changing fastest."""
    every = (TrialSpec(rho, k, seed) for k in ks for rho in rhos for seed in seeds)
    return tuple(dict.fromkeys(every))


def streams(seed: int) -> tuple[int, int, int]:
    """Independent seeds for a trial's network, its samples and its random neighbours."""
    network, samples, neighbors = np.random.SeedSequence(seed).generate_state(3).tolist()
    return network, samples, neighbors


def neighbors_of(
    spec: TrialSpec, means: FloatArray64, classes: ClassTable, metric: str
) -> IntArray:
    """The trial's neighbours, F x K; random ones are drawn for each trial from its seed."""
    if metric == "random":
        return random_neighbours(classes, k=spec.k, seed=streams(spec.seed)[2])
    return nearest_neighbours(means, classes, k=spec.k, metric=metric).ids


def make_trial(
    spec: TrialSpec, neighbors: IntArray, pool: Pool, hyper: Hyper, *, drawn: bool = False
) -> Trial:
    """Draw everything that is random about a trial but its neighbours, as far as its steps go."""
    network, seed, _ = streams(spec.seed)
    count = samples_per_epoch(pool, spec.rho)
    passes, most = hyper.passes(count), None
    draws = hyper.epochs * passes
    if hyper.max_steps is not None:
        most = hyper.max_steps * hyper.batch_size
        draws = min(draws, -(-most // count))
    samples = draw_epochs(pool, rho=spec.rho, epochs=draws, seed=seed)[:, :most]
    return Trial(spec.rho, spec.k, network, neighbors, samples, passes, drawn)
