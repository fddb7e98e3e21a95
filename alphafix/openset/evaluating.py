"""A correction judged on features of known and unknown classes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from alphafix.metrics.bootstrap import Resampling
from alphafix.metrics.evaluation import Evaluation
from alphafix.metrics.measure import Judged, Shipped, compare_predictions
from alphafix.metrics.predictions import BeforeAfter, Predictions, predict_pair
from alphafix.openset.figures import open_set_figures
from alphafix.progress import Progress, silent

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluated:
    """An evaluation and what it was made of.

    Attributes:
        evaluation: The figures.
        both: The predictions behind it.
        judged: What was judged.
    """

    evaluation: Evaluation
    both: BeforeAfter
    judged: Judged


def evaluate(
    judged: Judged,
    resampling: Resampling,
    *,
    provenance: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> Evaluated:
    """Hold base and corrected head against each other on the same samples.

    Args:
        judged: What is judged.
        resampling: Bootstrap draws behind the intervals.
        provenance: How it is made, to be kept with the figures.
        progress: Told of long work.

    Raises:
        InputError: If features, head and correction do not fit together.
    """
    head, correction, shipped = judged.head, judged.correction, judged.shipped
    stores = [store for store in (judged.store, judged.unknown) if store is not None]
    for store in stores:
        head.require_match(width=store.width, num_classes=store.num_classes)
    both, *others = (predict_pair(one, head, correction, progress=progress) for one in stores)
    if shipped is not None:
        _warn_of_others(shipped, both.after)
        both = replace(both, after=shipped.predictions)
    evaluation = compare_predictions(both, judged, resampling, progress=progress)
    evaluation = replace(evaluation, provenance=provenance or {})
    for unknown in others:
        open_set = open_set_figures(
            both,
            unknown,
            judged.classes,
            threshold=judged.open_threshold,
            resampling=resampling,
        )
        evaluation = replace(evaluation, open_set=open_set)
    return Evaluated(evaluation, both, judged)


def _warn_of_others(shipped: Shipped, after: Predictions) -> None:
    differing = int((shipped.predictions.predicted != after.predicted).sum())
    if differing:
        logger.warning(
            "%s predicts %d of %d samples otherwise than the run's correction does: it holds "
            "other rows, or its backbone computes otherwise here",
            shipped.name,
            differing,
            len(after.predicted),
        )
