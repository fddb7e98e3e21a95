"""The evaluation of a trained model: closed and open, as in OLTR's tables."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from alphafix.metrics.accuracy import class_mean_accuracy, tier_accuracy
from alphafix.oltr.models.export import ExportedModel
from alphafix.oltr.training.running import HeadInputs, Running, head_inputs, linear_head
from alphafix.oltr.training.splits import ImageSplits
from alphafix.oltr.training.unknown import of_first_classes
from alphafix.openset.curve import best_threshold
from alphafix.openset.odin import OdinGrid, odin_scores, softmax_scores
from alphafix.openset.openmax import OpenMax
from alphafix.openset.samples import OpenSamples
from alphafix.openset.table import (
    Answers,
    detection_row,
    openmax_answers,
    recognition_row,
    softmax_answers,
)
from alphafix.progress import Progress, silent
from alphafix.values.arrays import BoolArray, FloatArray, FloatArray64, IntArray

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenSetSettings:
    """How a model is evaluated on unknown classes.

    Attributes:
        threshold: Softmax confidence under which a sample is unknown; None: see
            `choose_threshold`.
        openmax_rank: Rank of OpenMax, or None to leave it out.
        odin: What to evaluate ODIN with too, or None.
        classes: Numbers of unknown classes, for each of which to evaluate apart (Figure 8 c).
    """

    threshold: float | None
    openmax_rank: int | None = None
    odin: OdinGrid | None = None
    classes: tuple[int, ...] = ()


class Evaluator:
    """An exported model on the images of a training."""

    def __init__(
        self,
        model: ExportedModel,
        images: ImageSplits,
        running: Running,
        progress: Progress = silent,
    ) -> None:
        self.model = model.to(running.device).eval()
        self.images, self.running, self.progress = images, running, progress
        self.classes = images.classes
        self.head = linear_head(model.head.weight, model.head.bias)

    def inputs(self, split: str) -> HeadInputs:
        """What enters the head of a split's images."""
        images = self.images.load(split)
        return head_inputs(self.model.body, images, self.running, progress=self.progress)

    def logits(self, split: str) -> tuple[FloatArray, IntArray]:
        """Logits N x C and labels of a split."""
        found = self.inputs(split)
        return self.head.logits(found.features), found.labels

    def odin(self, split: str, temperature: float, step: float) -> FloatArray64:
        """ODIN's unknown scores of a split, with the step on the images."""
        images = self.images.load(split)
        std = images.transform.std
        index = np.arange(len(images), dtype=np.int64)
        parts = [
            odin_scores(self.model, pixels, temperature=temperature, step=step, std=std)
            for pixels, _ in images.plain(index, 64, self.running.device)
        ]
        return np.concatenate(parts)


def evaluate_splits(name: str, evaluator: Evaluator, settings: OpenSetSettings) -> dict[str, Any]:
    """Figures of a model on the splits that are there, as JSON data.

    Returns:
        "closed": top-1 by few, medium, many and overall, in percent, of val and test (null
        without samples), a mean over samples, and "closed_class_mean", the same as a mean over
        classes. Of a routed model "experts": how many an image asks on average in
        each. With unknown samples "recognition" (rows of Table 3) and "detection" (rows of
        Table 2), with the known samples of test (of val where there is no test).
    """
    on_known = [split for split in ("val", "test") if evaluator.images.has(split)]
    inputs = {split: evaluator.inputs(split) for split in on_known}
    logits = {split: evaluator.head.logits(found.features) for split, found in inputs.items()}
    report: dict[str, Any] = {
        "method": name,
        "closed": {
            split: tier_accuracy(*_right(logits[split], inputs[split]), evaluator.classes)
            for split in on_known
        },
        "closed_class_mean": {
            split: class_mean_accuracy(*_right(logits[split], inputs[split]), evaluator.classes)
            for split in on_known
        },
    }
    experts = {s: float(x.experts.mean()) for s, x in inputs.items() if x.experts is not None}
    if experts:
        report["experts"] = experts
    if not evaluator.images.has("open") or not on_known:
        return report
    threshold = settings.threshold
    if threshold is None:
        threshold = choose_threshold(evaluator, logits.get("val"))
    on = on_known[-1]
    known, labels = logits[on], inputs[on].labels
    return report | _open(name, evaluator, settings, threshold, on, known, labels)


# Without unknown samples: this many times the confidence of a head that knows nothing, 1/C.
GUESSES = 2


def choose_threshold(evaluator: Evaluator, val: FloatArray | None) -> float:
    """The threshold of the largest F-measure on validation and other unknown samples.

    Without these, `GUESSES` / C: OLTR's 0.1 is one for logits of its cosine classifier's scale of
    16. Without that scale no softmax exceeds e^2 / (C - 1 + e^2), 0.0695 for 100 classes.

    Args:
        evaluator: Model and images.
        val: Logits of the validation samples, n x C, or None where there are none.
    """
    if val is None or not evaluator.images.has("open-val"):
        return GUESSES / len(evaluator.classes)
    unknown, _ = evaluator.logits("open-val")
    right = val.argmax(axis=1) == evaluator.images.labels["val"]
    samples = OpenSamples(
        (1 - np.concatenate([softmax_scores(val), softmax_scores(unknown)])).astype(np.float32),
        np.concatenate([right, np.zeros(len(unknown), dtype=np.bool_)]),
        np.arange(len(val) + len(unknown)) < len(val),
    )
    return best_threshold(samples)[0]


def choose_odin(evaluator: Evaluator, grid: OdinGrid) -> tuple[float, float]:
    """Temperature and step of the least detection error on validation and other unknown samples.

    This is OLTR's "†" in Table 2. Where there is one of each, it is taken.

    Args:
        evaluator: Model and images, with the splits val and open-val where there is a choice.
        grid: What to choose from.
    """
    if not grid.several:
        return grid.temperatures[0], grid.steps[0]
    errors = {}
    for temperature in grid.temperatures:
        for step in grid.steps:
            both = (evaluator.odin(split, temperature, step) for split in ("val", "open-val"))
            errors[temperature, step] = detection_row("ODIN", *both).detection_error
    # Where one split has no samples, there is nothing to choose by.
    found = min(errors, key=lambda one: (errors[one] or 0.0, one))
    logger.info("ODIN: temperature %g and step %g are best on validation", *found)
    return found


def _right(logits: FloatArray, inputs: HeadInputs) -> tuple[BoolArray, IntArray]:
    """Whether each sample is predicted correctly, and its label."""
    right: BoolArray = logits.argmax(axis=1) == inputs.labels
    return right, inputs.labels


def _open(
    name: str,
    evaluator: Evaluator,
    settings: OpenSetSettings,
    threshold: float,
    on: str,
    known: FloatArray,
    labels: IntArray,
) -> dict[str, Any]:
    unknown, _ = evaluator.logits("open")
    pairs: dict[str, tuple[Answers, Answers]] = {
        name: (softmax_answers(known, threshold), softmax_answers(unknown, threshold))
    }
    scores = {"max-softmax": (softmax_scores(known), softmax_scores(unknown))}
    if not pairs[name][0].accepted.any():
        logger.warning(
            "the open-set threshold %g rejects every image: of %d classes the largest confidence "
            "is %.3g; let it be chosen",
            threshold,
            known.shape[1],
            1 - scores["max-softmax"][0].min(),
        )
    if settings.openmax_rank is not None:
        fitted = OpenMax.fit(*evaluator.logits("train"), rank=settings.openmax_rank)
        pairs[f"{name} + OpenMax"] = (
            openmax_answers(fitted.probabilities(known), threshold),
            openmax_answers(fitted.probabilities(unknown), threshold),
        )
        scores["OpenMax"] = (fitted.unknown_scores(known), fitted.unknown_scores(unknown))
    more: dict[str, Any] = {}
    if settings.odin is not None:
        temperature, step = choose_odin(evaluator, settings.odin)
        more["odin"] = {"temperature": temperature, "step": step}
        scores["ODIN"] = (
            evaluator.odin(on, temperature, step),
            evaluator.odin("open", temperature, step),
        )
    if settings.classes:
        more["open_classes"] = [
            {
                "classes": count,
                **recognition_row(
                    name, evaluator.classes, labels, pairs[name][0], pairs[name][1].only(kept)
                ).to_dict(),
            }
            for count, kept in of_first_classes(evaluator.images.sources["open"], settings.classes)
        ]
    return more | {
        "open_on": on,
        "threshold": threshold,
        "recognition": [
            recognition_row(row, evaluator.classes, labels, *pair).to_dict()
            for row, pair in pairs.items()
        ],
        "detection": [vars(detection_row(row, *pair)) for row, pair in scores.items()],
    }
