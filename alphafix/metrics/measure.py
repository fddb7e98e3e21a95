"""From what base and corrected say of the same samples to an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from alphafix.metrics.alike import Alike
from alphafix.metrics.bootstrap import Resampling, bootstrap
from alphafix.metrics.estimates import Paired, paired_estimates
from alphafix.metrics.evaluation import ClassResults, Evaluation, TierResult
from alphafix.metrics.figures import MEASURES, SUMMARIES, TIER_ROWS, Labelled, TierFigures
from alphafix.metrics.mcnemar import McNemar, mcnemar
from alphafix.metrics.open_set import OpenSet
from alphafix.metrics.predictions import BeforeAfter
from alphafix.progress import Progress, silent
from alphafix.values.arrays import FloatArray64, IntArray
from alphafix.values.classes import ClassTable


@dataclass(frozen=True)
class Asked:
    """What an evaluation is of, and how it is made.

    Attributes:
        classes: The class table.
        on: Name of the samples.
        method: What made the correction.
        groups: Which predicted class counts for which true class in the "grouped" measure.
        resampling: Bootstrap draws behind the intervals.
        provenance: How it is made.
    """

    classes: ClassTable
    on: str
    method: str
    groups: Alike | None = None
    resampling: Resampling = field(default_factory=Resampling)
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Both:
    """All figures of base and corrected as one vector, so that they are resampled together."""

    labelled: Labelled
    base: TierFigures
    corrected: TierFigures

    def vector(self, index: IntArray) -> FloatArray64:
        """Tables (2 x M x 5), summaries (2 x 2) and class accuracies (2 x C), flattened."""
        return np.stack([self._of_one(one, index) for one in (self.base, self.corrected)]).ravel()

    def _of_one(self, figures: TierFigures, index: IntArray) -> FloatArray64:
        table = figures.table(index)
        with np.errstate(invalid="ignore", divide="ignore"):
            classes = 100 * figures.class_correct(index) / self.labelled.samples
        vector: FloatArray64 = np.r_[table.ravel(), figures.summaries(index, table), classes]
        return vector


def compare_predictions(
    both: BeforeAfter,
    asked: Asked,
    *,
    open_set: OpenSet | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Evaluate two classifiers on the same N samples.

    Args:
        both: What they say; all labels in 0..C-1.
        asked: Of what and how.
        open_set: What is known of unknown classes, to be kept with the rest.
        progress: Told of the draws.
    """
    classes = asked.classes
    labelled = Labelled.of(classes, both.labels)
    figures = _Both(
        labelled,
        TierFigures(labelled, both.before, asked.groups),
        TierFigures(labelled, both.after, asked.groups),
    )
    point = figures.vector(np.arange(len(both.labels))).reshape(2, -1)
    values = bootstrap(figures.vector, both.labels, asked.resampling, progress=progress)
    estimates = paired_estimates(point, values.reshape(len(values), 2, -1))
    measures = (*MEASURES, "grouped")[: len(MEASURES) + (asked.groups is not None)]
    width = len(measures) * len(TIER_ROWS)
    tests = _tests(labelled, both)
    tiers = tuple(
        TierResult(
            name=name,
            classes=len(classes.tier(name)),
            samples=int(labelled.members[row] @ labelled.samples),
            figures={
                measure: estimates[place * len(TIER_ROWS) + row]
                for place, measure in enumerate(measures)
            },
            mcnemar=tests[name],
        )
        for row, name in enumerate(TIER_ROWS)
    )
    return Evaluation(
        classes=classes,
        on=asked.on,
        method=asked.method,
        tiers=tiers,
        summaries=dict(zip(SUMMARIES, estimates[width:], strict=False)),
        by_class=_class_results(figures, estimates[width + len(SUMMARIES) :]),
        resampling=asked.resampling,
        open_set=open_set,
        provenance=asked.provenance,
    )


def _tests(labelled: Labelled, both: BeforeAfter) -> dict[str, McNemar | None]:
    right_before, right_after = (
        found.predicted == both.labels for found in (both.before, both.after)
    )
    tests: dict[str, McNemar | None] = {}
    for name, members in zip(TIER_ROWS, labelled.members, strict=True):
        inside = members[both.labels]
        tests[name] = mcnemar(right_before[inside], right_after[inside]) if inside.any() else None
    return tests


def _class_results(figures: _Both, changes: list[Paired]) -> ClassResults:
    everything = np.arange(len(figures.labelled.labels))
    ends = [
        (np.nan, np.nan) if one.change is None else (one.change.low, one.change.high)
        for one in changes
    ]
    low, high = np.array(ends, dtype=np.float64).T
    return ClassResults(
        samples=figures.labelled.samples.astype(np.int64),
        base=figures.base.class_correct(everything).astype(np.int64),
        corrected=figures.corrected.class_correct(everything).astype(np.int64),
        low=low,
        high=high,
    )
