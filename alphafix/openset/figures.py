"""Unknown classes: what is accepted as known by the threshold on the softmax."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from alphafix.metrics.bootstrap import bootstrap, interval
from alphafix.metrics.evaluation import Change, Estimate
from alphafix.metrics.figures import TIER_ROWS
from alphafix.metrics.predictions import Predictions
from alphafix.openset.detection import Ranking, f_measure
from alphafix.values.arrays import BoolArray, FloatArray, FloatArray64, IntArray
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

SETTINGS = ("closed", "open")
"""How each split's top-1 is measured: with every sample accepted, or with the threshold."""


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

    @classmethod
    def of(cls, labels: IntArray, known: Predictions, unknown: Predictions) -> OpenSamples:
        """Join the predictions on known samples of these labels and on unknown ones."""
        samples, others = len(labels), len(unknown.predicted)
        return cls(
            np.concatenate([known.confidence, unknown.confidence]),
            np.concatenate([known.predicted == labels, np.zeros(others, dtype=np.bool_)]),
            np.arange(samples + others) < samples,
        )


class OpenSetFigures:
    """Figures of one classifier with the rule that confidence under a threshold is unknown.

    With TP = known samples that are accepted and right, FN = unknown samples that are
    accepted, and FP = all other known samples, rejected ones included,
    F = 2 TP / (2 TP + FP + FN) (OLTR, Eq. 11). **f_measure_old** is the form of the authors'
    older code, which leaves rejected samples out of FP and so rises without end with the
    threshold. **auroc** is the area under the curve of known against unknown by confidence;
    **detection_error** the mean of both error rates where 95% of known samples are accepted
    (Table 2). Top-1 of a split is **closed** with all of its samples accepted; **open**, a
    rejected sample is a wrong one (Table 3).

    Args:
        samples: The classifier's confidence on known and unknown samples.
        threshold: Confidence under which a sample is called unknown (OLTR: 0.1).
        members: Which known sample belongs to which of `TIER_ROWS`, bool of shape
            5 x (N + U); by default all known samples are "overall".
    """

    def __init__(
        self,
        samples: OpenSamples,
        threshold: float,
        members: BoolArray | None = None,
    ) -> None:
        accepted = samples.confidence >= np.float32(threshold)
        known = samples.known
        self.masks = np.stack(
            [
                known & accepted & samples.right,
                known & ~(accepted & samples.right),
                known & accepted & ~samples.right,
                ~known & accepted,
                known & accepted,
                known,
                ~known,
            ]
        ).astype(np.float64)
        if members is None:
            members = np.zeros((len(TIER_ROWS), len(known)), dtype=np.bool_)
            members[TIER_ROWS.index("overall")] = known
        right = [samples.right, samples.right & accepted]
        self.members = members.astype(np.float64)
        self.right = np.stack([members & one for one in right]).astype(np.float64)
        self.ranking = Ranking(samples.confidence, known)

    def vector(self, index: IntArray) -> FloatArray64:
        """`FIGURES` on the samples ``index``, then top-1 by `SETTINGS` and `TIER_ROWS`.

        Returns:
            float64 of shape 6 + 10, in percent; NaN where there are no samples.
        """
        times = np.bincount(index, minlength=self.masks.shape[1]).astype(np.float64)
        right, wrong, wrong_accepted, unknown_accepted, known_accepted, known, unknown = (
            self.masks @ times
        )
        with np.errstate(invalid="ignore"):
            figures = [
                f_measure(right, wrong, unknown_accepted),
                f_measure(right, wrong_accepted, unknown_accepted),
                self.ranking.auroc(times),
                self.ranking.detection_error(times),
                known_accepted / known,
                unknown_accepted / unknown,
            ]
            top1 = (self.right @ times) / (self.members @ times)
        vector: FloatArray64 = 100 * np.r_[figures, top1.ravel()]
        return vector


def open_set_figures(
    classes: ClassTable,
    labels: IntArray,
    base: tuple[Predictions, Predictions],
    corrected: tuple[Predictions, Predictions],
    *,
    threshold: float,
    draws: int,
    seed: int,
) -> dict[str, Any]:
    """Open-set figures of base and corrected, in percent with 95% intervals, as JSON data.

    Args:
        classes: The class table.
        labels: Classes of the N known samples, int64.
        base: The base head's predictions on known and on unknown samples.
        corrected: The corrected head's.
        threshold: Confidence under which a sample is called unknown.
        draws: Bootstrap draws over samples, by class; unknown samples are one class.
        seed: Their seed.

    Returns:
        `FIGURES`, and under "splits" each split's number of classes and top-1 by `SETTINGS`;
        base, corrected and change each, null where there are no samples.
    """
    unknown = len(base[1].predicted)
    strata = np.r_[labels, np.full(unknown, len(classes))]
    members = np.stack([np.isin(strata, classes.tier(name)) for name in TIER_ROWS])
    figures = [
        OpenSetFigures(OpenSamples.of(labels, *pair), threshold, members)
        for pair in (base, corrected)
    ]

    def both(index: IntArray) -> FloatArray64:
        before, after = (found.vector(index) for found in figures)
        return np.stack([before, after, after - before]).ravel()

    point = both(np.arange(len(strata)))
    ends = interval(bootstrap(both, strata, draws=draws, seed=seed))
    changes = _changes(np.stack([point, *ends]).reshape(3, 3, -1))
    tops = iter(changes[len(FIGURES) :])
    by_setting = {setting: {name: next(tops) for name in TIER_ROWS} for setting in SETTINGS}
    return {
        "threshold": threshold,
        "known_samples": len(labels),
        "unknown_samples": unknown,
        **dict(zip(FIGURES, changes, strict=False)),
        "splits": {
            name: {
                "classes": len(classes.tier(name)),
                **{setting: by_setting[setting][name] for setting in SETTINGS},
            }
            for name in TIER_ROWS
        },
    }


def _changes(table: FloatArray64) -> list[dict[str, Any]]:
    """JSON data of each figure.

    Args:
        table: float64 of shape 3 (value, low, high) x 3 (base, corrected, change) x S.
    """
    return [
        asdict(
            Change(
                *(
                    None if np.isnan(value) else Estimate(float(value), float(low), float(high))
                    for value, low, high in one.T
                )
            )
        )
        for one in np.moveaxis(table, 2, 0)
    ]


def read_change(data: Mapping[str, Any]) -> Change:
    """One figure of `open_set_figures` as a value."""
    return Change(**{key: None if part is None else Estimate(**part) for key, part in data.items()})
