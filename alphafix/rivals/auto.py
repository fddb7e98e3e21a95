"""The best linear correction under the user's own limit, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from alphafix.errors import InputError, option
from alphafix.metrics.accuracy import COLUMNS
from alphafix.metrics.bootstrap import Resampling, interval
from alphafix.metrics.many import accuracies, bootstrap_accuracies
from alphafix.progress import Progress, silent
from alphafix.rivals import LINEAR_METHODS, fit
from alphafix.rivals.data import FitData, Fitted, predictions
from alphafix.values.arrays import FloatArray64, IntArray
from alphafix.values.correction import Correction

FEW, OVERALL = COLUMNS.index("few"), COLUMNS.index("overall")
DRAWS = 1000


@dataclass(frozen=True)
class Tried:
    """A method that could have been chosen.

    Attributes:
        method: Its name.
        few_gain: Points that the few split gains on validation.
        overall_drop: Points that all classes together lose.
        settings: Its hyper-parameters.
    """

    method: str
    few_gain: float
    overall_drop: float
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Choice:
    """Which correction was chosen on validation, and how sure that is.

    Attributes:
        method: Its name.
        few_gain: Points that the few split gains, with the interval ``few_gain_interval``.
        overall_drop: Points that all classes together lose, with its interval.
        chance_best: Share of bootstrap draws of the validation samples in which it would have
            been chosen too.
        chance_within: Share of draws in which it keeps the limit.
        tried: Figures of every method that was tried.
    """

    method: str
    few_gain: float
    few_gain_interval: tuple[float, float]
    overall_drop: float
    overall_drop_interval: tuple[float, float]
    chance_best: float
    chance_within: float
    tried: tuple[Tried, ...]

    def describe(self) -> str:
        """All of it in two sentences."""
        low, high = self.few_gain_interval
        least, most = self.overall_drop_interval
        return (
            f"{self.method}: few-split {self.few_gain:+.1f} points "
            f"[{low:+.1f}, {high:+.1f}], overall {-self.overall_drop:+.1f} "
            f"[{-most:+.1f}, {-least:+.1f}] on validation. It is the choice in "
            f"{self.chance_best:.0%} of bootstrap draws and keeps the limit in "
            f"{self.chance_within:.0%}."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        return {**vars(self), "tried": [dict(vars(one)) for one in self.tried]}


def choose(
    data: FitData, offered: Sequence[Fitted], *, draws: int = DRAWS, seed: int = 0
) -> tuple[Fitted, Choice]:
    """The method with the largest few-split gain on validation within the allowed drop.

    A gain that was chosen as the largest of many is too large on average; the test set, which
    takes no part here, tells the truth.

    Args:
        data: Validation samples, head, and the allowed drop.
        offered: The fitted methods.
        draws: Bootstrap draws over validation samples, by class.
        seed: Their seed.

    Raises:
        InputError: If no method keeps the limit.
    """
    scorers = [data.head.logits, *(one.logits for one in offered)]
    right = [predictions(s, data.val_features) == data.val_labels for s in scorers]
    correct = np.stack(right, axis=1)
    point = accuracies(data.classes, data.val_labels, correct)
    limit = data.max_overall_drop
    place = int(_pick(point[None], limit)[0])
    if place < 0:
        raise InputError(
            "no method keeps the limit on validation",
            got=f"{len(offered)} methods, each losing more than {limit:g} points overall",
            expected=f"at most {limit:g} points lost",
            todo=f"allow a larger {option('max_overall_drop')}",
        )
    drawn = bootstrap_accuracies(data.classes, data.val_labels, correct, Resampling(draws, seed))
    gains = drawn[:, place + 1] - drawn[:, 0]
    low, high = interval(gains)
    tried = tuple(
        Tried(
            one.method,
            float(point[i + 1, FEW] - point[0, FEW]),
            float(point[0, OVERALL] - point[i + 1, OVERALL]),
            one.settings,
        )
        for i, one in enumerate(offered)
    )
    choice = Choice(
        method=offered[place].method,
        few_gain=tried[place].few_gain,
        few_gain_interval=(float(low[FEW]), float(high[FEW])),
        overall_drop=tried[place].overall_drop,
        overall_drop_interval=(-float(high[OVERALL]), -float(low[OVERALL])),
        chance_best=float((_pick(drawn, limit) == place).mean()),
        chance_within=float((-gains[:, OVERALL] <= limit + 1e-9).mean()),
        tried=tried,
    )
    return offered[place], choice


def _pick(figures: FloatArray64, limit: float) -> IntArray:
    """The method chosen in each draw (-1 for none) from draws x (1 + M) x 4 figures."""
    drop = figures[:, :1, OVERALL] - figures[:, 1:, OVERALL]
    few = np.where(drop <= limit + 1e-9, figures[:, 1:, FEW], -np.inf)
    return np.where(np.isneginf(few.max(axis=1)), -1, few.argmax(axis=1))


def fit_auto(
    data: FitData,
    *,
    extra: Sequence[Fitted] = (),
    methods: Sequence[str] = LINEAR_METHODS,
    progress: Progress = silent,
) -> Correction:
    """Fit all linear methods and return the correction that `choose` chooses.

    Args:
        data: What to fit on, with the user's limit.
        extra: More fitted methods to choose from (AlphaNet's, say, from
            `alphafix.rivals.alphanet.offered`), which come first, so that they win a tie.
        methods: Names of the methods to fit.
        progress: Told each method.

    Returns:
        The correction; ``chosen.auto`` tells which it is, by how much, and how sure.

    Raises:
        InputError: If no method keeps the limit.
    """
    offered = [one for one in extra if one.correction is not None]
    with progress("fitting methods", len(methods)) as advance:
        for name in methods:
            offered.append(fit(name, data))
            advance(1)
    found, choice = choose(data, offered, seed=data.seed)
    correction = found.correction
    if correction is None:  # `methods` may name one that is no linear head
        raise InputError(f"{found.method} is not a linear head", todo="leave it out of methods")
    report = {**choice.to_dict(), "text": choice.describe()}
    return replace(correction, chosen=replace(correction.chosen, auto=report))
