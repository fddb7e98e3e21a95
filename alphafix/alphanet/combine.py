"""One correction out of many trials: which setting, how its seeds combine, and its offset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from alphafix.alphanet.measure import contest
from alphafix.alphanet.scores import ScoreLayout, Scores
from alphafix.errors import InputError, option
from alphafix.metrics.accuracy import Accuracy, tier_accuracy
from alphafix.metrics.selection import Rule
from alphafix.metrics.trade_off import Contest, Curve, best_offset, trade_off
from alphafix.values.arrays import FloatArray, IntArray
from alphafix.values.classes import ClassTable
from alphafix.values.correction import Chosen
from alphafix.values.head import Head
from alphafix.values.trials import Trials


class NoCorrectionError(InputError):
    """No correction is as good as it has to be."""


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
        offset: What calibration has added to all few-split scores.
        val: Its accuracy on validation, or None.
        curve: The whole trade-off over offsets on validation, or None.
    """

    rho: float
    k: int
    trials: tuple[int, ...]
    neighbors: IntArray
    alphas: FloatArray
    biases: FloatArray
    offset: float = 0.0
    val: Accuracy | None = None
    curve: Curve | None = None

    def rows(self, weight: FloatArray, few: IntArray) -> FloatArray:
        """The corrected rows (AlphaNet, Eq. 2), float32 of shape F x D."""
        rows: FloatArray = weight[few].copy()
        for place in range(self.neighbors.shape[1]):
            rows += self.alphas[:, place, None] * weight[self.neighbors[:, place]]
        return rows

    def describe(self, trials: Trials, rule: Rule | None, ensemble: str) -> Chosen:
        """Which setting this is and why it was chosen."""
        settings = {
            "rho": self.rho,
            "k": self.k,
            "seeds": [trials.records[place].seed for place in self.trials],
            "ensemble": ensemble if len(self.trials) > 1 else "single",
            "why": "nothing was measured" if rule is None else rule.describe(),
            "offset": self.offset,
            "curve": None if self.curve is None else self.curve.outline(),
        }
        return Chosen(settings, self.val, None if rule is None else rule.base)


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
    biases = trials.biases[places].mean(0)
    return Combination(rho, k, tuple(places), ids, combined, biases)


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
    def base(self) -> Accuracy:
        """Accuracy of the base model, from its own few-split scores."""
        few = self.classes.few
        none = np.zeros((len(few), 1), dtype=np.float32)
        biases = self.head.bias_or_zeros[few]
        return self.accuracy(Combination(0.0, 1, (), few[:, None], none, biases))

    def accuracy(self, one: Combination) -> Accuracy:
        """Accuracy of a combination with its biases as they are."""
        return self._at(self._contest(one), 0.0)

    def measured(self, one: Combination, rule: Rule, *, calibrate: bool) -> Combination | None:
        """The combination with its accuracy, calibrated for the rule if asked.

        Returns:
            None if the rule allows it at no offset.
        """
        result = self._contest(one)
        offset, curve = 0.0, None
        if calibrate:
            curve = trade_off(result, self.classes)
            position = best_offset(curve, rule)
            if position is None:
                return None
            offset = float(curve.offsets[position])
        val = self._at(result, offset)
        if rule.goodness(val) is None:
            return None
        biases = one.biases + np.float32(offset / self.head.scale)
        return replace(one, biases=biases, offset=offset, val=val, curve=curve)

    def _contest(self, one: Combination) -> Contest:
        scaled = one.biases * np.float32(self.head.scale)
        return contest(self.scores, self.layout, one.neighbors, one.alphas, scaled)

    def _at(self, result: Contest, offset: float) -> Accuracy:
        drawn = slice(None) if self.drawn is None else self.drawn
        return tier_accuracy(result.correct(offset)[drawn], result.labels[drawn], self.classes)


def choose(offered: Sequence[Combination | None], rule: Rule) -> Combination:
    """The combination that the rule likes best; the first of equals.

    Raises:
        NoCorrectionError: If the rule allows none.
    """
    allowed = [one for one in offered if one is not None]
    if not allowed:
        raise NoCorrectionError(
            "no trained setting keeps the limit on validation",
            got=f"{len(offered)} settings, each losing more than "
            f"{rule.max_overall_drop} points of overall accuracy",
            expected=f"at most {rule.max_overall_drop} points lost",
            todo=f"allow a larger {option('max_overall_drop')}, add larger values of "
            f"{option('rho')}, or use {option('calibrate')}",
        )

    def goodness(one: Combination) -> float:
        value = rule.goodness(one.val) if one.val is not None else None
        return -np.inf if value is None else value

    return max(allowed, key=goodness)


def require_no_worse(found: Accuracy, rule: Rule, where: str) -> None:
    """Check that a correction is at least as good as the base model by the rule that chose it.

    Where the rule sees no difference, overall accuracy decides.

    Args:
        found: The correction's accuracy on the samples that it was chosen on.
        rule: The rule, which knows the base model's accuracy on them.
        where: Which samples these are, in words.

    Raises:
        NoCorrectionError: If it is worse.
    """

    def key(accuracy: Accuracy) -> tuple[float, float]:
        value = rule.goodness(accuracy)
        return (-np.inf if value is None else value, accuracy["overall"] or 0.0)

    if key(found) < key(rule.base):
        raise NoCorrectionError(
            f"the correction is worse than the base model on {where}",
            got=f"{_text(found)} after, {_text(rule.base)} before",
            expected=f"no less ({rule.describe()})",
            todo=f"try larger values of {option('rho')}, more neighbours, or what may be lost in "
            f"{option('max_overall_drop')}",
        )


def _text(accuracy: Accuracy) -> str:
    known = {name: value for name, value in accuracy.items() if value is not None}
    return ", ".join(f"{name} {value:.1f}%" for name, value in known.items())
