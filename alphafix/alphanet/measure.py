"""Accuracy by split, and finished corrections on reduced scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from alphafix.alphanet.objective import best_few
from alphafix.alphanet.scores import Layout, Scores, reduce_scores
from alphafix.classes import SPLITS, ClassTable
from alphafix.correction import Trials
from alphafix.features.store import FeatureStore
from alphafix.head import Head

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

Accuracy = Mapping[str, "float | None"]
"""Top-1 accuracy in percent of "few", "medium", "many" and "overall"; None without samples."""


def split_accuracy(correct: BoolArray, labels: IntArray, classes: ClassTable) -> Accuracy:
    """Top-1 accuracy in percent of each split and overall, over samples.

    Args:
        correct: Whether each sample is predicted correctly, bool of shape N.
        labels: Its class id, int64 of shape N.
        classes: Which class is in which split.
    """
    split_of = classes.splits[labels]
    found: dict[str, float | None] = {}
    for code, name in enumerate(SPLITS):
        mine = correct[split_of == code]
        found[name] = 100 * float(mine.mean()) if len(mine) else None
    found["overall"] = 100 * float(correct.mean()) if len(correct) else None
    return found


def harmonic_mean(accuracy: Accuracy) -> float:
    """Harmonic mean of the accuracies of the splits that have samples."""
    values = [accuracy[name] for name in SPLITS]
    known = [value for value in values if value is not None]
    if not known or min(known) == 0:
        return 0.0
    return len(known) / sum(1 / value for value in known)


@dataclass(frozen=True)
class Contest:
    """For each sample, the best few-split class against the best base class.

    Attributes:
        gap: Best base score minus best few-split score, float32 of shape n: a few-split class
            wins where an offset on all few-split scores exceeds it.
        few_right: Whether the best few-split class is the label, bool of shape n.
        base_right: Whether the best base class is the label, bool of shape n.
        labels: Class ids, int64 of shape n.
    """

    gap: FloatArray
    few_right: BoolArray
    base_right: BoolArray
    labels: IntArray

    def correct(self, offset: float = 0.0) -> BoolArray:
        """Whether each sample is predicted correctly with ``offset`` on few-split scores."""
        return np.where(self.gap < offset, self.few_right, self.base_right)


def contest(
    scores: Scores, layout: Layout, neighbors: IntArray, alphas: FloatArray, biases: FloatArray
) -> Contest:
    """Let the corrected few-split classes of one correction meet the base classes.

    Args:
        scores: n samples, kept by class.
        layout: Which column is which class.
        neighbors: Class ids, int64 of shape F x K.
        alphas: Coefficients, float32 of shape F x K.
        biases: Few-split biases times the logit scale, float32 of shape F.
    """
    device = scores.labels.device

    def to(array: npt.NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    gap = torch.empty(len(scores), device=device)
    few_right = torch.empty(len(scores), dtype=torch.bool, device=device)
    positions = to(layout.positions(neighbors))
    for place, best, which in best_few(scores, positions, to(alphas), to(biases)):
        gap[place] = scores.base_max[place] - best
        few_right[place] = which == scores.few_label[place]
    base_right = scores.base_argmax == scores.labels
    return Contest(
        gap.cpu().numpy(),
        few_right.cpu().numpy(),
        base_right.cpu().numpy(),
        scores.labels.cpu().numpy(),
    )


def trial_accuracies(
    trials: Trials, head: Head, classes: ClassTable, store: FeatureStore
) -> list[Accuracy]:
    """Accuracy of each trial by itself on stored features, for means and deviations.

    Args:
        trials: T trials.
        head: The head that they correct.
        classes: The class table.
        store: Features and labels, read once.
    """
    layout = Layout.of(len(classes), classes.few, np.maximum(trials.neighbors, 0))
    chunks = ((x, store.labels[start : start + len(x)]) for start, x in store.chunks())
    device = torch.device("cpu")
    scores = reduce_scores(
        chunks, len(store), head, layout, device=device, memory=1 << 30, class_major=True
    )
    found = []
    for neighbors, alphas, biases in zip(
        trials.neighbors, trials.alphas, trials.biases, strict=True
    ):
        scaled = biases * np.float32(head.scale)
        near = np.maximum(neighbors, 0)  # padding has alpha 0
        result = contest(scores, layout, near, alphas, scaled)
        found.append(split_accuracy(result.correct(), result.labels, classes))
    return found
