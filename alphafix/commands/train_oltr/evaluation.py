"""The evaluation at the end of `alphafix train-oltr`: closed and open, as in OLTR's tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from alphafix.oltr.data import Images
from alphafix.oltr.export import ExportedModel
from alphafix.oltr.metrics import Accuracy, Running, accuracy_by_tier
from alphafix.oltr.outputs import features_of
from alphafix.openset.odin import odin_scores, softmax_scores
from alphafix.openset.openmax import OpenMax
from alphafix.openset.table import (
    Answers,
    detection_row,
    openmax_answers,
    recognition_row,
    softmax_answers,
)
from alphafix.progress import Progress, silent
from alphafix.values.arrays import FloatArray, FloatArray64, IntArray
from alphafix.values.classes import ClassTable
from alphafix.values.head import Head


class Evaluator:
    """An exported model on the images of a training.

    Args:
        model: The model.
        load: Gives the images of a split.
        classes: The class table.
        running: Device and precision.
        progress: Told of the images.
    """

    def __init__(
        self,
        model: ExportedModel,
        load: Callable[[str], Images],
        classes: ClassTable,
        running: Running,
        progress: Progress = silent,
    ) -> None:
        self.model = model.to(running.device).eval()
        self.load, self.classes, self.running = load, classes, running
        self.progress = progress
        weight, bias = model.head.weight, model.head.bias
        self.head = Head(
            weight.detach().float().cpu().numpy(),
            None if bias is None else bias.detach().float().cpu().numpy(),
        )

    def logits(self, split: str) -> tuple[FloatArray, IntArray]:
        """Logits N x C and labels of a split."""
        images = self.load(split)
        found = features_of(self.model.body, images, self.running, progress=self.progress)
        return self.head.logits(found.features), found.labels

    def accuracy(self, logits: FloatArray, labels: IntArray) -> Accuracy:
        """Closed-set top-1 by split."""
        size = len(self.classes)
        right = np.bincount(labels[logits.argmax(1) == labels], minlength=size)
        return accuracy_by_tier(
            right.astype(np.int64), np.bincount(labels, minlength=size), self.classes
        )

    def odin(self, split: str) -> FloatArray64:
        """ODIN's unknown scores of a split, with the step on the images."""
        images = self.load(split)
        std = images.transform.std
        index = np.arange(len(images), dtype=np.int64)
        parts = [
            odin_scores(self.model, pixels, std=std)
            for pixels, _ in images.plain(index, 64, self.running.device)
        ]
        return np.concatenate(parts)


def evaluate_splits(
    name: str,
    evaluator: Evaluator,
    splits: tuple[str, ...],
    *,
    threshold: float,
    openmax_rank: int | None,
    odin: bool,
) -> dict[str, Any]:
    """Figures of a model on the splits that are there, as JSON data.

    Args:
        name: Name of the method.
        evaluator: The model and the images.
        splits: Names of the splits that are there.
        threshold: Softmax confidence under which a sample is unknown.
        openmax_rank: Rank of OpenMax, or None to leave it out.
        odin: Whether to evaluate ODIN too.

    Returns:
        "closed": top-1 by few, medium, many and overall, in percent, of val and test (null
        without samples). With unknown samples "recognition" (rows of Table 3) and "detection"
        (rows of Table 2), with the known samples of test (of val where there is no test).
    """
    on_known = [split for split in ("val", "test") if split in splits]
    found = {split: evaluator.logits(split) for split in on_known}
    closed = {split: dict(evaluator.accuracy(*pair)) for split, pair in found.items()}
    report: dict[str, Any] = {"method": name, "closed": closed}
    if "open" not in splits or not found:
        return report
    on = on_known[-1]
    known, labels = found[on]
    unknown, _ = evaluator.logits("open")
    pairs: dict[str, tuple[Answers, Answers]] = {
        name: (softmax_answers(known, threshold), softmax_answers(unknown, threshold))
    }
    scores = {"max-softmax": (softmax_scores(known), softmax_scores(unknown))}
    if openmax_rank is not None:
        fitted = OpenMax.fit(*evaluator.logits("train"), rank=openmax_rank)
        pairs[f"{name} + OpenMax"] = (
            openmax_answers(fitted.probabilities(known), threshold),
            openmax_answers(fitted.probabilities(unknown), threshold),
        )
        scores["OpenMax"] = (fitted.unknown_scores(known), fitted.unknown_scores(unknown))
    if odin:
        scores["ODIN"] = (evaluator.odin(on), evaluator.odin("open"))
    return {
        **report,
        "open_on": on,
        "threshold": threshold,
        "recognition": [
            recognition_row(row, evaluator.classes, labels, *pair).to_dict()
            for row, pair in pairs.items()
        ],
        "detection": [vars(detection_row(row, *pair)) for row, pair in scores.items()],
    }
