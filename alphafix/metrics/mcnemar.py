"""McNemar's exact test: did the correction change how often the same samples are right?"""

from __future__ import annotations

from dataclasses import dataclass

from alphafix.values.arrays import BoolArray


@dataclass(frozen=True)
class McNemar:
    """Two classifiers on the same samples.

    Attributes:
        gained: Samples that only the second classifier gets right.
        lost: Samples that only the first gets right.
        p: Two-sided exact probability of a split at least as uneven if neither is better.
    """

    gained: int
    lost: int
    p: float


def mcnemar(before: BoolArray, after: BoolArray) -> McNemar:
    """McNemar's test (1947), exact: gained is binomial(gained + lost, 1/2).

    Args:
        before: Whether the first classifier is right, bool of shape N.
        after: Whether the second one is, bool of shape N.
    """
    from scipy.special import bdtr  # scipy.stats has it too, and takes a second to load

    gained = int((after & ~before).sum())
    lost = int((before & ~after).sum())
    p = min(1.0, 2.0 * float(bdtr(min(gained, lost), gained + lost, 0.5)))
    return McNemar(gained, lost, p)
