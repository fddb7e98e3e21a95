"""Limits on what a correction may cost, and how much slack makes them hold on fresh samples.

A candidate whose drop on validation is just within a limit exceeds it on every second fresh
sample, and more often where it was chosen as the best of many. So a candidate with the drop d on
n samples is allowed only where d + z s <= limit, s being the standard error of the difference
between its drop there and on as many fresh samples, s^2 = 2 v / n with v the variance of a sample's
loss (+1, 0 or -1 against the base model), within the few-split and the base classes. How much z it
takes is found by repeating the *whole* choice on random halves of the validation samples and
measuring on the other halves, which are fresh to it: z is the least, from the normal quantile on,
with which the limit holds on the other half in at least the wanted share of cases.

Which setting is the best is not told by its few-split gain at the limit alone, which moves by a
point or more with every few samples: a setting's worth is its gain with z from two less to two more
than is asked for, on average. That takes its whole neighbourhood into account, and costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import NormalDist

import numpy as np

from alphafix.metrics.confidence import DEFAULT_CONFIDENCE
from alphafix.metrics.trade_off import Contest, Path
from alphafix.values.arrays import BoolArray, FloatArray64, IntArray
from alphafix.values.classes import ClassTable
from alphafix.values.curve import Curve
from alphafix.values.labels import ByClass

# Blocks of validation samples, of which every second makes a half; halves that are drawn.
BLOCKS = 20
HALVES = 100

# Standard errors of slack that are tried; where the last is not enough nothing can be promised.
MARGINS = np.arange(81) / 10

# Around a margin: with so many standard errors more and less of slack, the worth of a setting is
# its mean gain. Wider and narrower windows chose as well (examples/evidence).
WINDOW = np.arange(-20, 21) / 10

_AROUND = np.arange(-20, 101) / 10

# Share of the cases in which a limit may be exceeded that halves of one sample may use: what is
# lucky in the whole sample is so in both halves, so that they are kinder than fresh samples.
CAUTION = 0.75

# Candidates that take part in the repeated choice: an offset in small steps, for all paths.
MOST_CANDIDATES = 20_000
OFFSETS = (8, 256)

# Candidates that lose this many points more than is allowed are not among them.
FAR = 5.0

# Drops are quotients of counts: what equals the limit must not exceed it by rounding.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Limits:
    """Percentage points of top-1 accuracy that a correction may lose; None is no limit.

    Attributes:
        max_overall_drop: Of all classes together.
        max_base_drop: Of medium and many classes together.
        max_class_drop: Of any single class.
        confidence: Probability, at least 0.5, with which all of them hold on fresh samples of the
            same kind, as many as validation has. At 0.5 they hold on validation itself, no more.
    """

    max_overall_drop: float | None = None
    max_base_drop: float | None = None
    max_class_drop: float | None = None
    confidence: float = DEFAULT_CONFIDENCE

    def __bool__(self) -> bool:
        """Whether there is any limit."""
        drops = (self.max_overall_drop, self.max_base_drop, self.max_class_drop)
        return any(drop is not None for drop in drops)

    @property
    def promises(self) -> bool:
        """Whether more is asked for than to keep the limits on validation itself."""
        return bool(self) and self.confidence > 0.5

    def describe(self) -> str:
        """The limits and their confidence, in words."""
        parts = [
            f"at most {drop:g} points lost {where}"
            for drop, where in (
                (self.max_overall_drop, "overall"),
                (self.max_base_drop, "in the other classes"),
                (self.max_class_drop, "in any class"),
            )
            if drop is not None
        ]
        where = (
            f"with {self.confidence:.0%} confidence on fresh samples"
            if self.promises
            else "on validation itself"
        )
        return f"{' and '.join(parts) or 'no limit'} {where}"


DEFAULT_LIMITS = Limits(max_overall_drop=2.0)
"""What a method with a knob may cost where the user does not say."""


@dataclass(frozen=True)
class Flips:
    """What M candidates change against the base model, counted in G groups of samples.

    Attributes:
        gained: Samples that the candidate alone has right, float64 of shape G x M.
        lost: Samples that the base model alone has right, float64 of shape G x M.
        sizes: Samples of each group, float64 of shape G.
    """

    gained: FloatArray64
    lost: FloatArray64
    sizes: FloatArray64

    @property
    def arrays(self) -> tuple[FloatArray64, FloatArray64, FloatArray64]:
        """All of it."""
        return self.gained, self.lost, self.sizes

    @property
    def few_gain(self) -> FloatArray64:
        """Few-split samples gained less those lost, of shape M."""
        net: FloatArray64 = self.gained[0] - self.lost[0]
        return net


class Samples:
    """Validation samples, as candidates are held against limits on them.

    Args:
        classes: The class table.
        labels: Class ids, int64 of shape n.
        base_right: Whether the base model is right, bool of shape n.
        limits: The limits.
        seed: Seed of the blocks and halves.
    """

    def __init__(
        self,
        classes: ClassTable,
        labels: IntArray,
        base_right: BoolArray,
        limits: Limits,
        seed: int = 0,
    ) -> None:
        self.classes, self.labels, self.base_right = classes, labels, base_right
        self.limits, self.seed = limits, seed
        few = np.zeros(len(classes), dtype=np.int64)
        few[classes.few] = 1
        # The groups: few-split, base, and each class where classes are limited by themselves.
        self._stratum = labels if limits.max_class_drop is not None else 1 - few[labels]
        self._strata = len(classes) if limits.max_class_drop is not None else 2
        if limits.max_class_drop is None:
            self._members = np.eye(2)
        else:
            self._members = np.concatenate([[few, 1 - few], np.eye(len(classes))])

    @cached_property
    def _rows(self) -> list[tuple[list[int], float]]:
        """For each limit the groups that it is about, and the limit in points."""
        limits = self.limits
        rows: list[tuple[list[int], float]] = []
        if limits.max_overall_drop is not None:
            rows.append(([0, 1], limits.max_overall_drop))
        if limits.max_base_drop is not None:
            rows.append(([1], limits.max_base_drop))
        if limits.max_class_drop is not None:
            rows += [([2 + c], limits.max_class_drop) for c in range(len(self.classes))]
        return rows

    def flips(self, contest: Contest, offsets: FloatArray64) -> Flips:
        """What a contest changes at each of M ascending offsets."""
        gained, lost = (one[:, 0] for one in self._count(contest, offsets, None))
        sizes = np.bincount(self._stratum, minlength=self._strata)
        return self._grouped(gained, lost, sizes.astype(np.float64))

    def along(self, contest: Contest, curve: Curve) -> Curve:
        """The curve of a contest, with the slack at each of its offsets where there is a limit."""
        if not self.limits:
            return curve
        return replace(curve, slack=self.slack(self.flips(contest, curve.offsets)))

    def _grouped(self, gained: FloatArray64, lost: FloatArray64, sizes: FloatArray64) -> Flips:
        """Counts of strata as counts of groups."""
        return Flips(self._members @ gained, self._members @ lost, self._members @ sizes)

    def _count(
        self, contest: Contest, offsets: FloatArray64, blocks: IntArray | None
    ) -> tuple[FloatArray64, FloatArray64]:
        """Samples gained and lost, each S x J x M for S strata and J blocks (or one)."""
        count = 1 if blocks is None else BLOCKS
        cell = self._stratum * count + (0 if blocks is None else blocks)
        # The first offset that exceeds the gap: from there on a few-split class is the answer.
        place = np.searchsorted(offsets, contest.gap, side="right")
        cells, width = self._strata * count, len(offsets) + 1
        found = []
        for base in (~self.base_right, self.base_right):
            before = base & (contest.base_right != self.base_right)
            after = base & (contest.few_right != self.base_right)
            moved = np.flatnonzero(before != after)
            step = after[moved].astype(np.float64) - before[moved]
            index = cell[moved] * width + place[moved]
            change = np.bincount(index, weights=step, minlength=cells * width)
            start = np.bincount(cell[before], minlength=cells)[:, None]
            total = start + np.cumsum(change.reshape(cells, width)[:, :-1], axis=1)
            found.append(total.reshape(self._strata, count, -1).astype(np.float64))
        return found[0], found[1]

    def slack(self, flips: Flips, *, fresh: FloatArray64 | None = None) -> FloatArray64:
        """Standard errors between each candidate and its nearest limit, of shape M.

        Negative where a limit is exceeded on these samples.

        Args:
            flips: The candidates on these samples.
            fresh: Sizes of the groups of fresh samples; as many as these by default.
        """
        least = np.full(flips.gained.shape[1], np.inf)
        for groups, limit in self._rows:
            sizes, gained, lost = (array[groups] for array in (flips.sizes, *flips.arrays[:2]))
            total = sizes.sum()
            if not total:
                continue  # of classes without samples nothing can be said
            flipped = _flips_at(limit * total / 100, gained.sum(axis=0), lost.sum(axis=0))
            between = ((lost - gained) ** 2 / np.maximum(sizes, 1)[:, None]).sum(axis=0)
            others = total if fresh is None else max(float(fresh[groups].sum()), 1.0)
            # One flip more than was expected: none in few samples does not mean none ever.
            variance = (np.maximum(flipped - between, 0) + 1) * (1 + total / others)
            room = limit - drop_of(flips, groups)
            room[np.abs(room) <= ROUNDING] = 0.0
            least = np.minimum(least, room * total / (100 * np.sqrt(variance)))
        return least

    def exceeds(self, flips: Flips) -> BoolArray:
        """Whether each candidate exceeds a limit on these samples, bool of shape M."""
        over = np.zeros(flips.gained.shape[1], dtype=np.bool_)
        for groups, limit in self._rows:
            if flips.sizes[groups].sum():
                over |= drop_of(flips, groups) > limit + ROUNDING
        return over

    def margin(self, paths: Sequence[Path]) -> float:
        """Standard errors of slack with which a choice among all of ``paths`` keeps the limits.

        Infinite where no margin that was tried is enough.
        """
        if not self.limits.promises:
            return 0.0
        least = NormalDist().inv_cdf(self.limits.confidence)
        rng = np.random.default_rng(self.seed)
        blocks = self._blocks(rng)
        candidates, owner = self._candidates(paths, blocks)
        if not len(owner):
            return least
        broken = np.mean(
            [self._broken(*both, owner) for both in self._halves(candidates, rng)], axis=0
        )
        bad = np.flatnonzero(broken > CAUTION * (1 - self.limits.confidence))
        # From the first margin on after which none is too small.
        first = int(bad[-1]) + 1 if len(bad) else 0
        return max(least, float(MARGINS[first])) if first < len(MARGINS) else float("inf")

    def _broken(self, here: Flips, fresh: Flips, owner: IntArray) -> BoolArray:
        """For each of `MARGINS`, whether the choice on one half exceeds a limit on the other.

        Args:
            here: The candidates on the half that is chosen on.
            fresh: The same on the other half.
            owner: The path of each candidate, int64 of shape M.
        """
        slack = self.slack(here, fresh=fresh.sizes)
        chosen = choices(owner, here.few_gain, slack)
        # Where nothing is left the base model is the choice, which breaks no limit.
        return np.asarray((chosen >= 0) & self.exceeds(fresh)[chosen])

    def _candidates(self, paths: Sequence[Path], blocks: IntArray) -> tuple[Flips, IntArray]:
        """Candidates of all paths that could be chosen on some half, S x J x M, and their paths."""
        most = 2 * MOST_CANDIDATES // (self._strata * max(len(paths), 1))
        most = int(np.clip(most, *OFFSETS))
        sizes = np.zeros((self._strata, BLOCKS))
        np.add.at(sizes, (self._stratum, blocks), 1)
        none = np.zeros((self._strata, BLOCKS, 0))
        parts, owners = [(none, none)], [np.zeros(0, dtype=np.int64)]
        for number, path in enumerate(paths):
            offsets = path.offsets()
            flips = self.flips(path.contest, offsets)
            worth = np.flatnonzero((self._beyond(flips) <= FAR) & (flips.few_gain >= 0))
            if len(worth) > most:
                worth = worth[np.linspace(0, len(worth) - 1, most).astype(np.int64)]
            if len(worth):
                parts.append(self._count(path.contest, offsets[worth], blocks))
                owners.append(np.full(len(worth), number))
        gained, lost = (np.concatenate(one, axis=2) for one in zip(*parts, strict=True))
        return Flips(gained, lost, sizes), np.concatenate(owners)

    def _beyond(self, flips: Flips) -> FloatArray64:
        """Points by which each candidate exceeds the limits of whole tiers, of shape M."""
        beyond = np.full(flips.gained.shape[1], -np.inf)
        for groups, limit in self._rows:
            if groups[0] < 2 and flips.sizes[groups].sum():
                beyond = np.maximum(beyond, drop_of(flips, groups) - limit)
        return beyond

    def _blocks(self, rng: np.random.Generator) -> IntArray:
        """The block of each sample: every class's samples are dealt out in turn."""
        blocks = np.empty(len(self.labels), dtype=np.int64)
        groups = ByClass.of(self.labels)
        for label in np.flatnonzero(groups.sizes).tolist():
            mine = rng.permutation(groups.samples(label))
            blocks[mine] = (rng.integers(BLOCKS) + np.arange(len(mine))) % BLOCKS
        return blocks

    def _halves(self, candidates: Flips, rng: np.random.Generator) -> Iterator[tuple[Flips, Flips]]:
        """Yield the candidates on half of the blocks and on the other half, both ways."""
        whole = self._grouped(*(one.sum(axis=1) for one in candidates.arrays))
        for _ in range(HALVES):
            # One block of each pair, so that most classes are halved too.
            mine = np.arange(0, BLOCKS, 2) + rng.integers(0, 2, BLOCKS // 2)
            half = self._grouped(*(one[:, mine].sum(axis=1) for one in candidates.arrays))
            rest = Flips(*(a - b for a, b in zip(whole.arrays, half.arrays, strict=True)))
            yield half, rest
            yield rest, half


def worth_of(gain: FloatArray64, slack: FloatArray64, margin: float) -> float:
    """Mean few-split gain of a path's best candidates with about ``margin`` of slack.

    Args:
        gain: Gain of each candidate in points, of shape M; that of the base model, 0, is always to
            be had.
        slack: Its slack, of shape M.
        margin: Standard errors.
    """
    if not np.isfinite(margin):
        return 0.0
    order = np.argsort(slack)
    most = np.maximum.accumulate(gain[order][::-1])[::-1]
    place = np.searchsorted(slack[order], margin + WINDOW)
    return float(np.maximum(np.append(most, 0.0)[place], 0.0).mean())


def choices(owner: IntArray, gain: FloatArray64, slack: FloatArray64) -> IntArray:
    """The choice among candidates for each of `MARGINS`, as `alphafix.metrics.selection` makes it.

    Args:
        owner: The path of each candidate, int64 of shape M, ascending.
        gain: Its few-split gain, of shape M.
        slack: Its slack, of shape M.

    Returns:
        Places among the candidates, int64, one a margin; -1 where none gains anything with so much
        slack.
    """
    best = _best_with(_AROUND, owner, gain, slack)
    gains = np.maximum(np.append(gain, 0.0)[best], 0.0)
    # Differences of running sums: the worth of each path at each margin.
    sums = np.cumsum(np.pad(gains, ((0, 0), (1, 0))), axis=1)
    worth = sums[:, len(WINDOW) :] - sums[:, : -len(WINDOW)]
    middle = slice(len(WINDOW) // 2, len(WINDOW) // 2 + len(MARGINS))
    worth[gains[:, middle] <= 0] = -1.0
    path, every = worth.argmax(axis=0), np.arange(len(MARGINS))
    return np.where(worth[path, every] >= 0, best[:, middle][path, every], -1)


def _best_with(
    margins: FloatArray64, owner: IntArray, gain: FloatArray64, slack: FloatArray64
) -> IntArray:
    """Each path's candidate with the largest gain, then slack, of those with enough slack.

    Returns:
        int64 of shape P x X for X ascending margins; -1 where a path has none.
    """
    order = np.lexsort((slack, gain))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    _, row = np.unique(owner, return_inverse=True)
    table = np.full((int(row[-1]) + 1, len(margins) + 1), -1, dtype=np.int64)
    # Under the last margin for which the slack is enough.
    np.maximum.at(table, (row, np.searchsorted(margins, slack, side="right")), rank)
    best = np.maximum.accumulate(table[:, ::-1], axis=1)[:, ::-1][:, 1:]
    return np.append(order, -1)[best]


def _flips_at(net: float, gained: FloatArray64, lost: FloatArray64) -> FloatArray64:
    """Flips, gained and lost together, to be expected where the truth is exactly at the limit.

    A score interval's variance: that of the hypothesis that is to be refused, not of the few
    flips that a candidate was chosen for. With Poisson counts k lost and g gained and the mean
    x - y = d of their difference, the likelihood is greatest where k / x + g / (x - d) = 2.

    Args:
        net: d, samples lost less samples gained.
        gained: g, float64 of shape M.
        lost: k, float64 of shape M.
    """
    both = 2 * net + lost + gained
    x = (both + np.sqrt(np.maximum(both**2 - 8 * lost * net, 0))) / 4
    flips: FloatArray64 = np.maximum(2 * x - net, 0)
    return flips


def drop_of(flips: Flips, groups: Sequence[int]) -> FloatArray64:
    """Points of accuracy that each candidate loses in some groups together, of shape M."""
    net = flips.lost[groups].sum(axis=0) - flips.gained[groups].sum(axis=0)
    return np.asarray(100 * net / flips.sizes[groups].sum())
