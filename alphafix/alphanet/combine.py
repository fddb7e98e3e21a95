"""One correction out of many trials: which setting, how its seeds combine, and its offset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from alphafix.alphanet.measure import contest
from alphafix.alphanet.scores import Layout, Scores
from alphafix.errors import InputError
from alphafix.metrics.accuracy import Accuracy, tier_accuracy
from alphafix.metrics.selection import Rule
from alphafix.metrics.trade_off import Contest, Curve, best_offset, trade_off
from alphafix.values.arrays import FloatArray, IntArray
from alphafix.values.classes import ClassTable
from alphafix.values.correction import Trials


@dataclass(frozen=True)
class Candidate:
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


def candidates(trials: Trials, *, ensemble: str) -> list[Candidate]:
    """The corrections that the trials offer.

    With "mean", one a setting: the mean of its seeds' corrected rows and biases. With
    "single", every trial.
    """
    groups: dict[tuple[float, int, int], list[int]] = {}
    for place, record in enumerate(trials.settings):
        seed = record["seed"] if ensemble == "single" else 0
        groups.setdefault((record["rho"], record["k"], seed), []).append(place)
    return [_mean(trials, rho, k, places) for (rho, k, _), places in groups.items()]


def _mean(trials: Trials, rho: float, k: int, places: Sequence[int]) -> Candidate:
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
    return Candidate(rho, k, tuple(places), ids, combined, biases)


def on_validation(candidate: Candidate, scores: Scores, layout: Layout, scale: float) -> Contest:
    """The candidate's few-split classes against the base classes on validation samples."""
    scaled = candidate.biases * np.float32(scale)
    return contest(scores, layout, candidate.neighbors, candidate.alphas, scaled)


def measured(
    candidate: Candidate,
    result: Contest,
    classes: ClassTable,
    rule: Rule,
    *,
    calibrate: bool,
    scale: float,
) -> Candidate | None:
    """The candidate with its validation accuracy, calibrated for the rule if asked.

    Returns:
        None if the rule allows it at no offset.
    """
    offset, curve = 0.0, None
    if calibrate:
        curve = trade_off(result, classes)
        position = best_offset(curve, rule.goodness)
        if position is None:
            return None
        offset = float(curve.offsets[position])
    val = tier_accuracy(result.correct(offset), result.labels, classes)
    if rule.goodness(val) is None:
        return None
    biases = candidate.biases + np.float32(offset / scale)
    return Candidate(
        candidate.rho,
        candidate.k,
        candidate.trials,
        candidate.neighbors,
        candidate.alphas,
        biases,
        offset=offset,
        val=val,
        curve=curve,
    )


def choose(offered: Sequence[Candidate | None], rule: Rule) -> Candidate:
    """The candidate that the rule likes best; the first of equals.

    Raises:
        InputError: If the rule allows none.
    """
    allowed = [candidate for candidate in offered if candidate is not None]
    if not allowed:
        raise InputError(
            "no trained setting keeps the limit on validation",
            got=f"{len(offered)} settings, each losing more than "
            f"{rule.max_overall_drop} points of overall accuracy",
            expected=f"at most {rule.max_overall_drop} points lost",
            todo="allow a larger --max-overall-drop, add larger values of --rho, or use "
            "--calibrate",
        )

    def goodness(candidate: Candidate) -> float:
        value = rule.goodness(candidate.val) if candidate.val is not None else None
        return -np.inf if value is None else value

    return max(allowed, key=goodness)


def describe(chosen: Candidate, trials: Trials, rule: Rule | None, ensemble: str) -> dict[str, Any]:
    """Which setting was chosen and why, as JSON data for the correction."""
    return {
        "rho": chosen.rho,
        "k": chosen.k,
        "seeds": [trials.settings[place]["seed"] for place in chosen.trials],
        "ensemble": ensemble if len(chosen.trials) > 1 else "single",
        "why": "nothing was measured" if rule is None else rule.describe(),
        "offset": chosen.offset,
        "curve": None if chosen.curve is None else chosen.curve.outline(),
        "val": None if chosen.val is None else dict(chosen.val),
        "val_base": None if rule is None else dict(rule.base),
    }
