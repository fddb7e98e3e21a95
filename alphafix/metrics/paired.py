"""Two classifiers on the same samples: in which tiers one of them is better, and how sure that is.

Three tiers are looked at, few, base (medium and many) and overall, of which two are independent.
Were each held to 95% by itself, something would be "shown" in more than one of ten data sets on
which nothing is to be found. So certainty is that of all three together: the probability that
in no tier would two equally good classifiers seem as far apart as these do in this one.

Whether they differ is told by the samples that one of them alone has right (McNemar 1947, with
Edwards' correction for continuity of 1948): with g such samples of one and k of the other,
(|g - k| - 1) / sqrt(g + k) is normal, if they are equally good. A bootstrap is too sure where
there are few such samples: of five that all speak for one it would make 99%.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import sqrt
from statistics import NormalDist

import numpy as np

from alphafix.metrics.estimates import Estimate
from alphafix.values.arrays import BoolArray, FloatArray64

# Certainty from which a difference is shown, and from which there probably is one.
SHOWN, PROBABLY = 0.95, 0.8

# Where it is so, in words.
PLACES = {"few": "for rare classes", "base": "for the other classes", "overall": "overall"}

# Draws of normal numbers behind a certainty: its standard error is at most 0.2 points.
DRAWS = 50_000


@dataclass(frozen=True)
class Difference:
    """One classifier's accuracy less another's in one tier.

    Attributes:
        tier: "few", "base" or "overall".
        estimate: In points; the interval holds with 95% for all three tiers together, and excludes
            0 just where the difference is shown.
        sure: Probability in 0..1 that two equally good classifiers would not seem so far apart in
            any of the three tiers.
        not_worse: The same, one-sided and for this tier alone, of a difference below 0.
    """

    tier: str
    estimate: Estimate
    sure: float
    not_worse: float

    @property
    def better(self) -> bool:
        """Whether the first classifier is the better one on these samples."""
        return self.estimate.value > 0

    @property
    def wins(self) -> bool:
        """Whether that is shown."""
        return self.better and self.sure >= SHOWN

    @property
    def told(self) -> str:
        """Which one is better here, and how sure that is: "probably better overall (88%)"."""
        probably = "" if self.sure >= SHOWN else "probably "
        word = "better" if self.better else "worse"
        return f"{probably}{word} {PLACES[self.tier]} ({_percent(self.sure)})"

    @property
    def told_not_worse(self) -> str:
        """That the first one is not worse, likewise."""
        probably = "" if self.not_worse >= SHOWN else "probably "
        return f"{probably}not worse {PLACES[self.tier]} ({_percent(self.not_worse)})"


def _percent(certainty: float) -> str:
    """A certainty in whole percent, which is never rounded up to one that it does not reach."""
    return f"{int(100 * certainty + 1e-9)}%"


def differences(first: BoolArray, second: BoolArray, few: BoolArray) -> dict[str, Difference]:
    """Few, base and overall, first minus second; a tier without samples is left out.

    Args:
        first: Which samples the one classifier has right, bool of shape N.
        second: The same of the other.
        few: Which samples are of few-split classes, bool of shape N.
    """
    gained, lost = first & ~second, second & ~first
    counts = {
        tier: (int(mine.sum()), int((gained & mine).sum()), int((lost & mine).sum()))
        for tier, mine in (("few", few), ("base", ~few), ("overall", np.ones_like(few)))
        if mine.any()
    }
    flips = [sum(counts[tier][1:]) if tier in counts else 0 for tier in ("few", "base")]
    furthest = _furthest(round(flips[0] / max(sum(flips), 1), 3))
    return {tier: _difference(tier, *counts[tier], furthest) for tier in counts}


def _difference(
    tier: str, samples: int, gained: int, lost: int, furthest: FloatArray64
) -> Difference:
    net, spread = gained - lost, sqrt(max(gained + lost, 1))
    apart = max(abs(net) - 1, 0) / spread
    wide = (float(np.quantile(furthest, SHOWN)) * spread + 1) * 100 / samples
    value = 100 * net / samples
    return Difference(
        tier,
        Estimate(value, value - wide, value + wide),
        float(np.searchsorted(furthest, apart) / len(furthest)),
        # One sample on which they differ may always be luck.
        NormalDist().cdf((net - 1) / spread) if gained + lost else 1.0,
    )


@cache
def _furthest(share: float) -> FloatArray64:
    """How far apart two equally good classifiers seem in the tier where that is most, ascending.

    Args:
        share: Of the samples on which they differ, that of the few-split ones, in 0..1.
    """
    few, base = np.random.default_rng(0).standard_normal((2, DRAWS))
    overall = sqrt(share) * few + sqrt(1 - share) * base
    return np.sort(np.abs([few, base, overall]).max(axis=0))
