"""Unknown classes: what is accepted as known by the threshold on the softmax."""

from __future__ import annotations

import numpy as np

from alphafix.metrics.accuracy import members_of, tier_shares
from alphafix.metrics.bootstrap import Resampling, bootstrap
from alphafix.metrics.estimates import paired_estimates
from alphafix.metrics.figures import TIER_ROWS
from alphafix.metrics.open_set import OpenSet, OpenTier
from alphafix.metrics.predictions import BeforeAfter
from alphafix.openset.curve import open_curve
from alphafix.openset.detection import Ranking, f_measures
from alphafix.openset.samples import OpenSamples
from alphafix.values.arrays import BoolArray, FloatArray64, IntArray
from alphafix.values.classes import ClassTable

FIGURES = (
    "f_measure",
    "f_measure_old",
    "auroc",
    "detection_error",
    "known_accepted",
    "unknown_accepted",
)
"""Figures of all samples, in percent (see `OpenSetFigures`)."""


class OpenSetFigures:
    """Figures of one classifier with the rule that confidence under a threshold is unknown.

    **f_measure** and **f_measure_old** are the forms of `f_measures`; **auroc** is the area
    under the curve of known against unknown by confidence, **detection_error** the mean of
    both error rates where 95% of known samples are accepted (Table 2).

    Args:
        samples: The classifier's confidence on known and unknown samples.
        threshold: Confidence under which a sample is called unknown (OLTR: 0.1).
    """

    def __init__(self, samples: OpenSamples, threshold: float) -> None:
        accepted = samples.accepted(threshold)
        known = samples.known
        self.masks = np.stack(
            [
                known & accepted & samples.right,
                ~known & accepted,
                known & accepted,
                known,
                ~known,
            ]
        ).astype(np.float64)
        self.ranking = Ranking(samples.confidence, known)

    def vector(self, index: IntArray) -> FloatArray64:
        """`FIGURES` on the samples ``index``, float64 of shape 6, in percent.

        NaN where there are no samples.
        """
        times = np.bincount(index, minlength=self.masks.shape[1]).astype(np.float64)
        right, unknown_accepted, known_accepted, known, unknown = self.masks @ times
        with np.errstate(invalid="ignore"):
            figures = [
                *f_measures(right, known_accepted, known, unknown_accepted),
                self.ranking.auroc(times),
                self.ranking.detection_error(times),
                known_accepted / known,
                unknown_accepted / unknown,
            ]
        return 100 * np.array(figures)


class _OneHead:
    """`FIGURES` and the tiers' top-1 of one classifier, to be resampled together."""

    def __init__(
        self, samples: OpenSamples, strata: IntArray, members: BoolArray, threshold: float
    ) -> None:
        self.figures = OpenSetFigures(samples, threshold)
        self.strata, self.members = strata, members
        right = [samples.right, samples.right & samples.accepted(threshold)]
        self.right = np.stack(right).astype(np.float64)

    def vector(self, index: IntArray) -> FloatArray64:
        """`FIGURES`, then top-1 closed and open by `TIER_ROWS`, float64 of shape 6 + 10."""
        labels, length = self.strata[index], self.members.shape[1]
        right = np.stack([np.bincount(labels, one, length) for one in self.right[:, index]])
        top1 = tier_shares(
            right.astype(np.float64), np.bincount(labels, minlength=length), self.members
        )
        vector: FloatArray64 = np.r_[self.figures.vector(index), 100 * top1.ravel()]
        return vector


def open_set_figures(
    known: BeforeAfter,
    unknown: BeforeAfter,
    classes: ClassTable,
    *,
    threshold: float,
    resampling: Resampling,
) -> OpenSet:
    """Open-set figures of base and corrected, in percent with 95% intervals.

    Top-1 of a tier is closed with all of its samples accepted; open, a rejected sample is a
    wrong one (OLTR, Table 3).

    Args:
        known: What both say of N samples of the C classes.
        unknown: What they say of U samples of unknown classes.
        classes: The class table.
        threshold: Confidence under which a sample is called unknown.
        resampling: Bootstrap draws over samples, by class; unknown samples are one class.
    """
    others = len(unknown.labels)
    strata = np.r_[known.labels, np.full(others, len(classes))]
    # Unknown samples are in no tier.
    members = np.pad(members_of(classes, TIER_ROWS), ((0, 0), (0, 1)))
    base = OpenSamples.of(known.labels, known.before, unknown.before)
    corrected = OpenSamples.of(known.labels, known.after, unknown.after)
    heads = [_OneHead(one, strata, members, threshold) for one in (base, corrected)]

    def both(index: IntArray) -> FloatArray64:
        return np.stack([head.vector(index) for head in heads]).ravel()

    point = both(np.arange(len(strata))).reshape(2, -1)
    values = bootstrap(both, strata, resampling)
    found = paired_estimates(point, values.reshape(len(values), 2, -1))
    closed, opened = np.split(np.arange(len(FIGURES), len(found)), 2)
    return OpenSet(
        threshold,
        len(known.labels),
        others,
        dict(zip(FIGURES, found, strict=False)),
        {
            name: OpenTier(len(classes.tier(name)), found[i], found[j])
            for name, i, j in zip(TIER_ROWS, closed, opened, strict=True)
        },
        open_curve(base, corrected),
    )
