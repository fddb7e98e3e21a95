"""Base against corrected on stored features, on samples of unknown classes too."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np

from alphafix.errors import InputError, call, option
from alphafix.features.features import Features
from alphafix.metrics.alike import Alike
from alphafix.metrics.evaluation import Evaluation
from alphafix.metrics.measure import Asked, compare_predictions
from alphafix.metrics.predictions import BeforeAfter, Predictions, predict_pair
from alphafix.openset.figures import open_set_figures
from alphafix.progress import Progress, silent
from alphafix.values.correction import Correction
from alphafix.values.head import Head

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Unknown:
    """Samples of unknown classes.

    Attributes:
        features: Their features.
        name: What the user calls them.
        threshold: Softmax confidence under which a sample is called unknown.
    """

    features: Features
    name: str
    threshold: float

    def require_unknown(self) -> None:
        """Check that no sample is of a known class.

        Raises:
            InputError: If one is.
        """
        labels = self.features.labels
        self.features.require_labels(known_only=False)
        if known := int((labels >= 0).sum()):
            first = int(np.argmax(labels >= 0))
            raise InputError(
                f"{known} of the {len(labels)} samples of {self.name} are of known classes",
                got=f"{self.features.ids[first]} of class {labels[first]}",
                expected="the label -1 throughout: samples of no class that the head knows",
                todo=f"extract unknown classes with {call('extract', split='open')}, and give "
                f"{option('open', 'open')}",
            )


@dataclass(frozen=True)
class Evaluated:
    """An evaluation and what it was made of.

    Attributes:
        evaluation: The figures.
        both: The predictions on ``store`` behind it.
        store: The evaluated features.
        head: The base head.
        correction: The correction.
        groups: The user's class groups, or None.
    """

    evaluation: Evaluation
    both: BeforeAfter
    store: Features
    head: Head
    correction: Correction
    groups: Alike | None


def evaluate(
    asked: Asked,
    store: Features,
    head: Head,
    correction: Correction,
    *,
    shipped: Predictions | None = None,
    unknown: Unknown | None = None,
    progress: Progress = silent,
) -> Evaluated:
    """Evaluate a correction.

    Args:
        asked: Of what, and how.
        store: Features of N samples with labels in 0..C-1.
        head: The base head.
        correction: The correction.
        shipped: What the corrected model itself says of the samples, to be measured in place of
            the correction; a warning tells where the two differ.
        unknown: Samples of unknown classes.
        progress: Told of samples and draws.

    Raises:
        InputError: If features, head, correction and labels do not fit together.
    """
    store.require_labels()
    head.require_match(width=store.width, num_classes=store.num_classes)
    both = predict_pair(store, head, correction, progress=progress)
    if shipped is not None:
        if differing := int((shipped.predicted != both.after.predicted).sum()):
            logger.warning(
                "%s predicts %d of %d samples otherwise than the run's correction does: it holds "
                "other rows, or its backbone computes otherwise here",
                asked.method,
                differing,
                len(store),
            )
        both = replace(both, after=shipped)
    open_set = None
    if unknown is not None:
        unknown.require_unknown()
        others = unknown.features
        head.require_match(width=others.width, num_classes=others.num_classes)
        open_set = open_set_figures(
            both,
            predict_pair(others, head, correction, progress=progress),
            asked.classes,
            threshold=unknown.threshold,
            resampling=asked.resampling,
        )
    evaluation = compare_predictions(both, asked, open_set=open_set, progress=progress)
    return Evaluated(evaluation, both, store, head, correction, asked.groups)
