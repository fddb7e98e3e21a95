"""One correction out of many trials: which setting, how its seeds combine, and its offset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from alphafix.alphanet.measure import contest
from alphafix.alphanet.pool import WIDER_POOL, with_own
from alphafix.alphanet.scores import ScoreLayout, Scores
from alphafix.metrics.accuracy import Accuracy, tier_accuracy
from alphafix.metrics.limits import Samples
from alphafix.metrics.selection import Choice, Rule, choose_best, choose_within
from alphafix.metrics.trade_off import Contest, Path, trade_off
from alphafix.values.arrays import FloatArray, IntArray
from alphafix.values.classes import ClassTable
from alphafix.values.curve import Curve
from alphafix.values.head import Head
from alphafix.values.trials import OwnRows, Trials


@dataclass(frozen=True)
class Combination:
    """A correction that could be chosen, still as coefficients.

    Attributes:
        rho: Its rho.
        k: Its K.
        trials: Positions of the trials that it is made of.
        neighbors: Class ids, int64 of shape F x K' (K' > K where the trials' neighbours
            differ).
        alphas: Coefficients; their 1-norm is at most 1, so that the bound of Eq. 3 holds for
            a mean too, float32 of shape F x K'.
        biases: Few-split biases, float32 of shape F.
        own: The own rows in the pool with their mean coefficients, a single "trial"; or None.
        offset: What calibration has added to all few-split scores.
    """

    rho: float
    k: int
    trials: tuple[int, ...]
    neighbors: IntArray
    alphas: FloatArray
    biases: FloatArray
    own: OwnRows | None = None
    offset: float = 0.0

    def rows(self, weight: FloatArray, few: IntArray) -> FloatArray:
        """The corrected rows (AlphaNet, Eq. 2), float32 of shape F x D."""
        rows: FloatArray = weight[few].copy()
        for place in range(self.neighbors.shape[1]):
            rows += self.alphas[:, place, None] * weight[self.neighbors[:, place]]
        if self.own is not None:
            rows += self.own.alphas[0, :, None] * self.own.rows
        return rows

    def pooled(self, num_classes: int) -> tuple[IntArray, FloatArray]:
        """Ids and coefficients of all rows that are combined, each F x K', own rows included."""
        if self.own is None:
            return self.neighbors, self.alphas
        return with_own(self.neighbors, num_classes), np.concatenate(
            [self.own.alphas[0, :, None], self.alphas], axis=1
        )

    def settings(self, trials: Trials, rule: Rule | None, ensemble: str) -> dict[str, Any]:
        """Which setting this is and why it was chosen, as JSON data."""
        return {
            "rho": self.rho,
            "k": self.k,
            "seeds": [trials.records[place].seed for place in self.trials],
            "ensemble": ensemble if len(self.trials) > 1 else "single",
            "why": "nothing was measured" if rule is None else rule.describe(),
            "offset": self.offset,
            **({} if self.own is None else {"pool": WIDER_POOL}),
        }

    def shifted(self, offset: float, scale: float) -> Combination:
        """The same with an offset on its few-split logits, which are ``scale`` times the scores."""
        return replace(self, biases=self.biases + np.float32(offset / scale), offset=offset)


def combinations(trials: Trials, *, ensemble: str) -> list[Combination]:
    """The corrections that the trials offer.

    With "mean", one a setting: the mean of its seeds' corrected rows and biases. With
    "single", every trial.
    """
    groups: dict[tuple[float, int, int], list[int]] = {}
    for place, record in enumerate(trials.records):
        seed = record.seed if ensemble == "single" else 0
        groups.setdefault((record.rho, record.k, seed), []).append(place)
    return [_mean(trials, rho, k, places) for (rho, k, _), places in groups.items()]


def _mean(trials: Trials, rho: float, k: int, places: Sequence[int]) -> Combination:
    neighbors = trials.neighbors[places][:, :, :k]
    alphas = trials.alphas[places][:, :, :k]
    if (neighbors == neighbors[:1]).all():
        ids, combined = neighbors[0], alphas.mean(0)
    else:
        # Different neighbours a trial: all of them, each with its share.
        few = neighbors.shape[1]
        ids = neighbors.transpose(1, 0, 2).reshape(few, -1)
        alphas /= len(places)
        combined = alphas.transpose(1, 0, 2).reshape(few, -1)
    biases, own = trials.biases[places].mean(0), trials.own
    if own is not None:
        own = replace(own, alphas=own.alphas[places].mean(0, keepdims=True))
    return Combination(rho, k, tuple(places), ids, combined, biases, own)


@dataclass(frozen=True)
class Judge:
    """Samples on which combinations, and the base model, are measured.

    Attributes:
        scores: The samples, kept by class.
        layout: Which of their columns is which class.
        head: The base model's head.
        classes: The class table.
        drawn: Which of them count, and how often, int64; None for all, once each.
    """

    scores: Scores
    layout: ScoreLayout
    head: Head
    classes: ClassTable
    drawn: IntArray | None = field(default=None, repr=False)

    @cached_property
    def base_contest(self) -> Contest:
        """The base model's few-split classes against its base classes."""
        few = self.classes.few
        none = np.zeros((len(few), 1), dtype=np.float32)
        biases = self.head.bias_or_zeros[few]
        return self.contest(Combination(0.0, 1, (), few[:, None], none, biases))

    @property
    def base(self) -> Accuracy:
        """Accuracy of the base model, from its own few-split scores."""
        return self.accuracy(self.base_contest)

    def contest(self, one: Combination) -> Contest:
        """The few-split classes of a combination, with its biases as they are, against the base."""
        scaled = one.biases * np.float32(self.head.scale)
        neighbors, alphas = one.pooled(len(self.classes))
        return contest(self.scores, self.layout, neighbors, alphas, scaled)

    def accuracy(self, result: Contest, offset: float = 0.0) -> Accuracy:
        """Accuracy of a contest at an offset."""
        drawn = slice(None) if self.drawn is None else self.drawn
        return tier_accuracy(result.correct(offset)[drawn], result.labels[drawn], self.classes)

    def choose(self, paths: Sequence[Path], rule: Rule, *, seed: int) -> Choice:
        """Choose among combinations as a rule wants.

        Args:
            paths: One a combination.
            rule: The rule.
            seed: Of the halves that limits are tried on (see `alphafix.metrics.limits`).
        """
        if rule.name != "constrained":
            return choose_best(paths, rule, self.classes)
        return choose_within(paths, self.samples(rule, seed=seed))

    def samples(self, rule: Rule, *, seed: int) -> Samples:
        """The samples as candidates are held against a rule's limits on them."""
        base = self.base_contest
        return Samples(self.classes, base.labels, base.correct(), rule.limits, seed)

    def curve(self, result: Contest, rule: Rule) -> Curve:
        """What an offset on the few-split scores of a contest buys, and the slack it leaves."""
        return self.samples(rule, seed=0).along(result, trade_off(result, self.classes))
