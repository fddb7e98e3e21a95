"""Finished corrections on reduced scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from alphafix.alphanet.objective import best_few, corrected_few
from alphafix.alphanet.pool import with_own
from alphafix.alphanet.scores import ScoreLayout, Scores, reduce_scores
from alphafix.features.features import Features
from alphafix.metrics.accuracy import Accuracy, tier_accuracy
from alphafix.metrics.trade_off import Contest
from alphafix.values.arrays import FloatArray, IntArray
from alphafix.values.classes import ClassTable
from alphafix.values.head import Head
from alphafix.values.trials import Trials


def contest(
    scores: Scores, layout: ScoreLayout, neighbors: IntArray, alphas: FloatArray, biases: FloatArray
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
    for place, best, right in best_few(scores, positions, to(alphas), to(biases)):
        gap[place] = scores.base_max[place] - best
        few_right[place] = right
    base_right = scores.base_argmax == scores.labels
    return Contest(
        gap.cpu().numpy(),
        few_right.cpu().numpy(),
        base_right.cpu().numpy(),
        scores.labels.cpu().numpy(),
    )


def trial_accuracies(
    trials: Trials, head: Head, classes: ClassTable, store: Features
) -> list[Accuracy]:
    """Accuracy of each trial by itself on stored features, for means and deviations.

    Args:
        trials: T trials.
        head: The head that they correct.
        classes: The class table.
        store: Features and labels, read once.
    """
    reduced = _Reduced.of(trials, head, classes, store)
    found = []
    for near, alphas, biases in reduced.each():
        result = contest(reduced.scores, reduced.layout, near, alphas, biases)
        found.append(tier_accuracy(result.correct(), result.labels, classes))
    return found


def trial_predictions(trials: Trials, head: Head, classes: ClassTable, store: Features) -> IntArray:
    """What each trial by itself takes the samples for, int64 of shape T x N.

    Args:
        trials: T trials.
        head: The head that they correct.
        classes: The class table.
        store: Features and labels of N samples, read once.
    """
    reduced = _Reduced.of(trials, head, classes, store)
    scores, few = reduced.scores, torch.from_numpy(classes.few)
    found = np.empty((len(trials), len(store)), dtype=np.int64)
    for row, (near, alphas, biases) in zip(found, reduced.each(), strict=True):
        positions = torch.from_numpy(reduced.layout.positions(near))
        numbers = (torch.from_numpy(np.ascontiguousarray(one)) for one in (alphas, biases))
        for place, t in corrected_few(scores, positions, *numbers):
            best, which = t.max(0)
            wins = best > scores.base_max[place]
            row[place] = torch.where(wins, few[which], scores.base_argmax[place]).numpy()
    return found


@dataclass(frozen=True)
class _Reduced:
    """Samples as trials see them, and what the trials add: T of each.

    Attributes:
        scores: The samples, kept by class.
        layout: Which column is which class.
        pools: Class ids that are combined, the own row's first where there is one, T x F x K.
        coefficients: Theirs, float32, T x F x K.
        biases: Few-split biases times the logit scale, float32, T x F.
    """

    scores: Scores
    layout: ScoreLayout
    pools: IntArray
    coefficients: FloatArray
    biases: FloatArray

    @classmethod
    def of(cls, trials: Trials, head: Head, classes: ClassTable, store: Features) -> _Reduced:
        own, count = trials.own, len(classes)
        pools = np.maximum(trials.neighbors, 0)  # padding has alpha 0
        coefficients = trials.alphas
        if own is not None:
            pools = np.stack([with_own(ids, count) for ids in pools])
            coefficients = np.concatenate([own.alphas[:, :, None], coefficients], axis=2)
        layout = ScoreLayout.of(count, classes.few, pools)
        chunks = ((x, store.labels[start : start + len(x)]) for start, x in store.chunks())
        scores = reduce_scores(
            chunks,
            len(store),
            head,
            layout,
            own=None if own is None else own.rows,
            device=torch.device("cpu"),
            memory=1 << 30,
            class_major=True,
        )
        return cls(scores, layout, pools, coefficients, trials.biases * np.float32(head.scale))

    def each(self) -> Iterator[tuple[IntArray, FloatArray, FloatArray]]:
        """Class ids, coefficients and biases of one trial after the other."""
        return zip(self.pools, self.coefficients, self.biases, strict=True)
