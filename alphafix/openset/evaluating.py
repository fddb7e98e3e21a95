"""A correction judged on features of known and unknown classes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from alphafix.features.features import Features
from alphafix.metrics.alike import Alike
from alphafix.metrics.bootstrap import Resampling
from alphafix.metrics.evaluation import Evaluation
from alphafix.metrics.measure import Asked, compare_predictions
from alphafix.metrics.predictions import BeforeAfter, Predictions, predict_pair
from alphafix.openset.figures import open_set_figures
from alphafix.progress import Progress, silent
from alphafix.values.classes import ClassTable
from alphafix.values.correction import Correction
from alphafix.values.head import Head

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Unknown:
    """Samples of no class that the head knows.

    Attributes:
        features: Their features, all of label -1.
        threshold: Softmax confidence under which a sample is called unknown.
    """

    features: Features
    threshold: float


@dataclass(frozen=True)
class Shipped:
    """A model file that stands for the correction.

    Attributes:
        name: Its name.
        predictions: What it says of the samples.
    """

    name: str
    predictions: Predictions


@dataclass(frozen=True)
class Judged:
    """A correction and what it is judged on.

    Attributes:
        store: Features and labels, all in 0..C-1.
        head: The base head.
        classes: The class table.
        correction: The correction.
        on: Name of the samples.
        groups: Which predicted class is in the group of which true one, or None.
        unknown: Samples of unknown classes, or None.
        shipped: A model file whose own predictions are taken for the corrected ones, or None.
    """

    store: Features
    head: Head
    classes: ClassTable
    correction: Correction
    on: str = "test"
    groups: Alike | None = None
    unknown: Unknown | None = None
    shipped: Shipped | None = None


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
    unknown = judged.unknown
    for store in (judged.store, *([] if unknown is None else [unknown.features])):
        head.require_match(width=store.width, num_classes=store.num_classes)
    both = predict_pair(judged.store, head, correction, progress=progress)
    if shipped is not None:
        _warn_of_others(shipped, both.after)
        both = replace(both, after=shipped.predictions)
    open_set = None
    if unknown is not None:
        others = predict_pair(unknown.features, head, correction, progress=progress)
        open_set = open_set_figures(
            both,
            others,
            judged.classes,
            threshold=unknown.threshold,
            resampling=resampling,
        )
    asked = Asked(
        judged.classes,
        judged.on,
        correction.method if shipped is None else shipped.name,
        judged.groups,
        resampling,
        provenance or {},
    )
    evaluation = compare_predictions(both, asked, open_set=open_set, progress=progress)
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
