"""Open-set tables of any methods: detection (OLTR, Table 2) and recognition (Table 3)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from alphafix.metrics.accuracy import Accuracy, tier_accuracy
from alphafix.openset.detection import Ranking, f_measures
from alphafix.values.arrays import BoolArray, FloatArray, FloatArray64, IntArray
from alphafix.values.classes import ClassTable

# OLTR, section 4: less confident samples are called unknown.
THRESHOLD = 0.1

# The columns of Table 3, in its order.
TABLE_COLUMNS = ("many", "medium", "few", "overall")


@dataclass(frozen=True)
class DetectionRow:
    """How well one method tells unknown samples; in percent, None without samples.

    Attributes:
        method: Its name.
        detection_error: Mean of both error rates where 95% of known samples are accepted.
        auroc: Area under the curve of known against unknown.
    """

    method: str
    detection_error: float | None
    auroc: float | None


def detection_row(method: str, known: FloatArray64, unknown: FloatArray64) -> DetectionRow:
    """One row of Table 2.

    Args:
        method: Name of the row.
        known: Unknown scores (larger: more likely unknown) of N known samples.
        unknown: Those of U unknown samples.
    """
    ranking = Ranking(
        -np.concatenate([known, unknown]).astype(np.float64),
        np.arange(len(known) + len(unknown)) < len(known),
    )
    once = np.ones(len(known) + len(unknown))
    return DetectionRow(
        method, _percent(ranking.detection_error(once)), _percent(ranking.auroc(once))
    )


@dataclass(frozen=True)
class Answers:
    """What a method says of N samples.

    Attributes:
        predicted: Its best known class, int64 of shape N.
        accepted: Whether it holds the sample for one of a known class, bool of shape N.
    """

    predicted: IntArray
    accepted: BoolArray

    def only(self, kept: BoolArray) -> Answers:
        """Those for some of the samples, bool of shape N."""
        return Answers(self.predicted[kept], self.accepted[kept])


def softmax_answers(logits: FloatArray, threshold: float = THRESHOLD) -> Answers:
    """The rule of OLTR: unknown if the largest softmax probability is under ``threshold``.

    Args:
        logits: float32 of shape N x C.
        threshold: Of the probability.
    """
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    confidence = 1 / np.exp(shifted).sum(axis=1)
    return Answers(logits.argmax(axis=1).astype(np.int64), confidence >= threshold)


def openmax_answers(probabilities: FloatArray64, threshold: float = THRESHOLD) -> Answers:
    """The rule of OpenMax: unknown if that is the most probable, or no class is probable.

    Args:
        probabilities: Of the C classes and, last, of the unknown, float64 of shape N x (C+1).
        threshold: Under which no class is probable.
    """
    known, unknown = probabilities[:, :-1], probabilities[:, -1]
    largest = known.max(axis=1)
    accepted = (largest >= threshold) & (largest >= unknown)
    return Answers(known.argmax(axis=1).astype(np.int64), accepted)


@dataclass(frozen=True)
class RecognitionRow:
    """One method in the closed and the open setting; in percent, None without samples.

    Attributes:
        method: Its name.
        closed: Top-1 by `TABLE_COLUMNS`, every sample accepted.
        open: Top-1 by `TABLE_COLUMNS`, where a rejected sample is a wrong one.
        f_measure: See `f_measures`.
        f_measure_old: Its older form.
        known_accepted: Share of known samples that are accepted.
        unknown_accepted: Share of unknown samples that are accepted.
    """

    method: str
    closed: Accuracy
    open: Accuracy
    f_measure: float | None
    f_measure_old: float | None
    known_accepted: float | None
    unknown_accepted: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        return asdict(self)


def recognition_row(
    method: str, classes: ClassTable, labels: IntArray, known: Answers, unknown: Answers
) -> RecognitionRow:
    """One row of Table 3.

    Args:
        method: Name of the row.
        classes: The class table.
        labels: True classes of the N known samples, int64 of shape N.
        known: What the method says of them.
        unknown: What it says of U unknown samples.
    """
    right = known.predicted == labels
    hits = int((right & known.accepted).sum())
    false = int(unknown.accepted.sum())
    accepted = int(known.accepted.sum())
    both = f_measures(hits, accepted, len(labels), false)
    measurable = len(labels) > 0 and len(unknown.accepted) > 0
    closed, opened = (
        tier_accuracy(one, labels, classes) for one in (right, right & known.accepted)
    )
    return RecognitionRow(
        method,
        {name: closed[name] for name in TABLE_COLUMNS},
        {name: opened[name] for name in TABLE_COLUMNS},
        100 * float(both[0]) if measurable else None,
        100 * float(both[1]) if measurable else None,
        _share(known.accepted),
        _share(unknown.accepted),
    )


def _share(chosen: BoolArray) -> float | None:
    return 100 * float(chosen.mean()) if len(chosen) else None


def _percent(value: float) -> float | None:
    return None if np.isnan(value) else 100 * value
