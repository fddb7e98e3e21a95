"""What AlphaNet has learned for a class, in its own terms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alphafix.values.arrays import FloatArray, IntArray
from alphafix.values.classes import ClassTable
from alphafix.values.correction import Correction
from alphafix.values.trials import Trials

# Coefficients nearer to zero than this say nothing to a reader.
SMALLEST = 0.005


@dataclass(frozen=True)
class Learned:
    """The combination behind each corrected class.

    Attributes:
        classes: The F few-split classes, int64.
        neighbors: Their neighbours in any of the trials, int64 of shape F x K'.
        alphas: The mean coefficient over the chosen trials, float32 of shape F x K'.
        own: That of the class's own discriminant row, float32 of shape F; None without one.
    """

    classes: IntArray
    neighbors: IntArray
    alphas: FloatArray
    own: FloatArray | None = None

    def text(self, label: int, classes: ClassTable) -> str:
        """Such as "[Eskimo dog] + 0.27 [Cardigan] - 0.18 [husky]", the largest first."""
        place = int(np.searchsorted(self.classes, label))
        total: dict[int, float] = {}
        for other, alpha in zip(
            self.neighbors[place].tolist(), self.alphas[place].tolist(), strict=True
        ):
            total[other] = total.get(other, 0.0) + alpha
        parts = [f"[{classes.names[label]}]"]
        if self.own is not None:
            own = float(self.own[place])
            parts.append(f"{'+' if own > 0 else '-'} {abs(own):.2f} [own discriminant]")
        for other, alpha in sorted(total.items(), key=lambda item: -abs(item[1])):
            if abs(alpha) >= SMALLEST:
                sign = "+" if alpha > 0 else "-"
                parts.append(f"{sign} {abs(alpha):.2f} [{classes.names[other]}]")
        return " ".join(parts)


def learned(correction: Correction) -> Learned | None:
    """The combination that a correction's rows are made of; None where no trial made them."""
    trials = correction.trials
    if trials is None:
        return None
    places = chosen_trials(correction, trials)
    if not places:
        return None
    few = trials.neighbors.shape[1]
    ids = np.maximum(trials.neighbors[places], 0).transpose(1, 0, 2).reshape(few, -1)
    alphas = (trials.alphas[places] / np.float32(len(places))).transpose(1, 0, 2).reshape(few, -1)
    own = None if trials.own is None else trials.own.alphas[places].mean(axis=0)
    return Learned(correction.classes, ids, alphas, own)


def chosen_trials(correction: Correction, trials: Trials) -> list[int]:
    """Positions of the trials whose mean the correction is."""
    chosen = correction.chosen
    return [
        place
        for place, record in enumerate(trials.records)
        if (record.rho, record.k) == (chosen.rho, chosen.k) and record.seed in chosen.seeds
    ]
