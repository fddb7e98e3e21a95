"""From two sets of predictions to an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from alphafix.metrics.bootstrap import LEVEL, bootstrap, interval
from alphafix.metrics.evaluation import (
    Change,
    ClassResults,
    Estimate,
    Evaluation,
    TierResult,
)
from alphafix.metrics.figures import (
    MEASURES,
    SUMMARIES,
    TIER_ROWS,
    Layout,
    TierFigures,
)
from alphafix.metrics.paired import McNemar, mcnemar
from alphafix.metrics.predictions import Predictions
from alphafix.progress import Progress, silent
from alphafix.values.arrays import BoolArray, FloatArray64, IntArray
from alphafix.values.classes import ClassTable

DRAWS = 1000


@dataclass(frozen=True)
class _Pair:
    """All figures of base and corrected as one vector, so that they are resampled together."""

    base: TierFigures
    corrected: TierFigures

    def vector(self, index: IntArray) -> FloatArray64:
        """Tables (2 x M x 5), summaries (2 x 2) and class accuracies (2 x C), flattened."""
        both = (self.base, self.corrected)
        tables = [figures.table(index) for figures in both]
        summaries = [
            figures.summaries(index, table) for figures, table in zip(both, tables, strict=True)
        ]
        with np.errstate(invalid="ignore", divide="ignore"):
            classes = [100 * f.class_correct(index) / f.layout.samples for f in both]
        return np.stack(
            [np.r_[t.ravel(), s, c] for t, s, c in zip(tables, summaries, classes, strict=True)]
        ).ravel()


def compare_predictions(
    classes: ClassTable,
    labels: IntArray,
    before: Predictions,
    after: Predictions,
    *,
    on: str,
    method: str,
    groups: BoolArray | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    open_set: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Evaluate two classifiers on the same N samples.

    Args:
        classes: The class table.
        labels: True classes, int64 of shape N, all in 0..C-1.
        before: Predictions of the base head.
        after: Predictions of the corrected head.
        on: Name of the samples.
        method: What made the correction.
        groups: Which predicted class (column) counts for which true class (row) in the
            "grouped" measure, bool C x C.
        draws: Bootstrap draws behind the intervals.
        seed: Their seed.
        open_set: What is known of unknown classes, to be kept with the rest.
        provenance: How it is made.
        progress: Told of the draws.
    """
    layout = Layout.of(classes, labels)
    pair = _Pair(TierFigures(layout, before, groups), TierFigures(layout, after, groups))
    point = pair.vector(np.arange(len(labels))).reshape(2, -1)
    values = bootstrap(pair.vector, labels, draws=draws, seed=seed, progress=progress)
    estimates = _Estimates(point, values.reshape(draws, 2, -1))
    measures = (*MEASURES, "grouped")[: len(MEASURES) + (groups is not None)]
    width = len(measures) * len(TIER_ROWS)
    tests = _tests(classes, labels, before, after)
    tiers = tuple(
        TierResult(
            name=name,
            classes=len(classes.tier(name)),
            samples=int(layout.members[row] @ layout.samples),
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
        on=on,
        method=method,
        tiers=tiers,
        summaries={name: estimates[width + i] for i, name in enumerate(SUMMARIES)},
        by_class=_class_results(pair, estimates, width + len(SUMMARIES)),
        settings={"bootstrap_draws": draws, "seed": seed, "level": LEVEL},
        open_set=open_set,
        provenance=provenance or {},
    )


class _Estimates:
    """Figures with intervals by position in the vector: base, corrected and change.

    Args:
        point: Figures on all samples, 2 x S.
        values: Bootstrap values, draws x 2 x S.
    """

    def __init__(self, point: FloatArray64, values: FloatArray64) -> None:
        changes = values[:, 1] - values[:, 0]
        self.point = np.stack([*point, point[1] - point[0]])
        self.low, self.high = interval(np.concatenate([values, changes[:, None]], axis=1))

    def __getitem__(self, position: int) -> Change:
        parts = [
            None if np.isnan(value) else Estimate(float(value), float(low), float(high))
            for value, low, high in zip(
                self.point[:, position], self.low[:, position], self.high[:, position], strict=True
            )
        ]
        return Change(*parts)


def _tests(
    classes: ClassTable, labels: IntArray, before: Predictions, after: Predictions
) -> dict[str, McNemar | None]:
    right_before, right_after = before.predicted == labels, after.predicted == labels
    found: dict[str, McNemar | None] = {}
    for name in TIER_ROWS:
        inside = np.isin(labels, classes.tier(name))
        found[name] = mcnemar(right_before[inside], right_after[inside]) if inside.any() else None
    return found


def _class_results(pair: _Pair, estimates: _Estimates, start: int) -> ClassResults:
    everything = np.arange(len(pair.base.layout.labels))
    return ClassResults(
        samples=pair.base.layout.samples.astype(np.int64),
        base=pair.base.class_correct(everything).astype(np.int64),
        corrected=pair.corrected.class_correct(everything).astype(np.int64),
        low=estimates.low[2, start:],
        high=estimates.high[2, start:],
    )
