"""What a patch does to the accuracy on validation features, and what rounding does to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from alphafix.features.store import FeatureStore
from alphafix.metrics.accuracy import COLUMNS, tier_accuracy
from alphafix.metrics.predictions import predict
from alphafix.progress import Progress, silent
from alphafix.run.directory import CLASSES, Run
from alphafix.values.classes import ClassTable
from alphafix.values.correction import Correction
from alphafix.values.head import Head


@dataclass(frozen=True)
class Effect:
    """Accuracy on validation features.

    Attributes:
        samples: N.
        accuracy: Top-1 in percent of the base head, the correction in float32 ("exact") and
            the correction as the file holds it ("written"), by split; None for a split
            without samples.
        changed_by_rounding: Samples that "exact" and "written" predict differently.
    """

    samples: int
    accuracy: dict[str, dict[str, float | None]]
    changed_by_rounding: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "on": "val",
            "samples": self.samples,
            "accuracy": self.accuracy,
            "changed_by_rounding": self.changed_by_rounding,
        }


def measure_effect(
    run: Run, head: Head, exact: Correction, written: Correction, *, progress: Progress = silent
) -> Effect | None:
    """Measure a patch on the run's validation features; None if the run has none.

    Args:
        run: The run directory.
        head: The base head.
        exact: The correction in float32.
        written: The correction as the file's element type holds it.
        progress: Told of the samples.

    Raises:
        InputError: If the features do not fit the head.
    """
    if not (run.has(run.manifest("val")) and run.has(CLASSES)):
        return None
    store = FeatureStore.open(run.features("val"))
    store.require_labels()
    head.require_match(width=store.width, num_classes=store.num_classes)
    heads = [head, exact.apply(head), written.apply(head)]
    found = predict(store, [item.logits for item in heads], progress=progress)
    _, exactly, really = (item.predicted for item in found)
    classes = ClassTable.load(run.path(CLASSES))
    figures = [tier_accuracy(p.predicted == store.labels, store.labels, classes) for p in found]
    accuracy = {
        tier: {
            name: None if (value := figure[tier]) is None else round(value, 4)
            for name, figure in zip(("base", "exact", "written"), figures, strict=True)
        }
        for tier in COLUMNS
    }
    return Effect(len(store), accuracy, int((exactly != really).sum()))
