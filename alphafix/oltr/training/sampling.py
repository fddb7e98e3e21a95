"""Which samples an epoch is made of, as a pure function of seed, stage and epoch.

Nothing is carried over from one epoch to the next, so that the number of an epoch is all that
a checkpoint has to keep of the sampler, and neither the number of loading processes nor that
of GPUs changes what is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from alphafix.errors import InputError, some
from alphafix.shown import in_list
from alphafix.values.arrays import FloatArray, IntArray
from alphafix.values.labels import ByClass

SeedArray = npt.NDArray[np.uint64]

Sampler = Literal["plain", "class_aware"]

# The golden ratio as a 64-bit integer: the step of SplitMix64 (Steele et al. 2014).
_STEP = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Epoch:
    """The samples of one epoch, in batches.

    Attributes:
        index: Sample numbers, int64 of shape steps x batch.
        seeds: Seed of the augmentation of each, uint64 of shape steps x batch.
    """

    index: IntArray
    seeds: SeedArray

    def __len__(self) -> int:
        return len(self.index)

    def part(self, rank: int, world: int) -> Epoch:
        """The share of one of ``world`` processes: an equal part of every batch."""
        size = self.index.shape[1] // world
        mine = slice(rank * size, (rank + 1) * size)
        return Epoch(self.index[:, mine], self.seeds[:, mine])


def draw_epoch(
    labels: IntArray,
    *,
    sampler: Sampler,
    batch: int,
    seed: int,
    stage: int,
    epoch: int,
    per_class: int = 4,
) -> Epoch:
    """Draw the samples of one epoch: N // batch steps, at least one.

    Args:
        labels: Class of each sample, int64 of shape N.
        sampler: "plain" (every sample at most once) or "class_aware" (see `class_aware_order`).
        batch: Samples a step; all N where there are fewer.
        seed: Seed of the training.
        stage: Number of its stage.
        epoch: Number of the epoch.
        per_class: Samples of a class in a row, for the class-aware sampler.
    """
    batch = min(batch, len(labels))
    steps = len(labels) // batch
    rng = np.random.default_rng([seed, stage, epoch])
    first = rng.integers(0, 1 << 63, dtype=np.uint64)
    if sampler == "plain":
        order = rng.permutation(len(labels))[: steps * batch]
    else:
        order = class_aware_order(labels, steps * batch, rng, per_class=per_class)
    seeds = scramble(first + np.arange(steps * batch, dtype=np.uint64) * _STEP)
    return Epoch(order.reshape(steps, batch).astype(np.int64), seeds.reshape(steps, batch))


def class_aware_order(
    labels: IntArray, draws: int, rng: np.random.Generator, *, per_class: int = 4
) -> IntArray:
    """Draw ``draws`` of N sample numbers, all classes equally often (Shen et al. 2016).

    Classes come in a new random order each time round, ``per_class`` samples at once; the
    samples of a class, too, come again only when all of them have come.
    """
    groups = ByClass.of(labels)
    present = groups.sizes > 0
    starts, sizes = groups.starts[:-1][present], groups.sizes[present]
    turns = -(-draws // (per_class * len(starts)))
    visits = np.concatenate([rng.permutation(len(starts)) for _ in range(turns)])
    drawn = np.repeat(visits, per_class)
    wanted = turns * per_class
    order = np.empty(len(drawn), dtype=np.int64)
    # Positions of each class, ascending: ``wanted`` of them, as every turn visits each class.
    places = np.argsort(drawn, kind="stable").reshape(len(starts), wanted)
    for place, start, size in zip(places, starts, sizes, strict=True):
        rounds = [rng.permutation(size) for _ in range(-(-wanted // size))]
        order[place] = groups.order[start + np.concatenate(rounds)[:wanted]]
    return order[:draws]


def scramble(state: SeedArray) -> SeedArray:
    """The output function of SplitMix64: well mixed bits of any 64-bit numbers."""
    mixed = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)), dtype=np.uint64)


def uniforms(seeds: SeedArray, count: int) -> FloatArray:
    """``count`` numbers from [0, 1) of each seed, float32 of shape len(seeds) x count."""
    steps = np.arange(1, count + 1, dtype=np.uint64) * _STEP
    bits = scramble(seeds[:, None] + steps) >> np.uint64(40)
    return np.asarray(bits / np.float64(1 << 24), dtype=np.float32)


def require_samples(labels: IntArray, num_classes: int, names: tuple[str, ...]) -> None:
    """Check that every class has a sample, and every label a class.

    Raises:
        InputError: If a label is no class id, or a class has no sample.
    """
    if len(labels) == 0 or labels.min() < 0 or labels.max() >= num_classes:
        raise InputError(
            "the training labels are no class ids",
            got=f"{labels.min()}..{labels.max()}" if len(labels) else "no samples",
            expected=f"0..{num_classes - 1}",
            todo="images of unknown classes belong into the open set, which training never sees",
        )
    empty = np.flatnonzero(np.bincount(labels, minlength=num_classes) == 0)
    if len(empty):
        raise InputError(
            f"{len(empty)} of {num_classes} classes have no training samples",
            got=some(in_list(names[i]) for i in empty),
            expected="at least one training sample in every class",
            todo="add images of these classes, or leave them out of the class list",
        )
