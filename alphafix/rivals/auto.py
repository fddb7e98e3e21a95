"""The best linear correction under the user's own limits, and how sure that is."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from alphafix.errors import InputError
from alphafix.metrics.accuracy import COLUMNS
from alphafix.metrics.bootstrap import Resampling, interval
from alphafix.metrics.many import bootstrap_accuracies
from alphafix.metrics.selection import Promise
from alphafix.progress import Progress, Whole, silent
from alphafix.rivals import AUTO_METHODS, RIVALS
from alphafix.rivals.budget import MOST_AT_ONCE, OutOfTime
from alphafix.rivals.data import (
    PREFERRED,
    FitData,
    Fitted,
    Offered,
    Outcome,
    choose_method,
    predictions,
)
from alphafix.rivals.kept import FinishedMethods, offer
from alphafix.threads import Workers
from alphafix.values.correction import Chosen, Correction

logger = logging.getLogger(__name__)

FEW, OVERALL = COLUMNS.index("few"), COLUMNS.index("overall")
DRAWS = 1000

# What the work of `fit_auto` is called.
FITTING = "fitting methods"


@dataclass(frozen=True)
class Tried:
    """A method that could have been chosen, with its best setting that keeps the limits.

    Attributes:
        method: Its name.
        few_gain: Points that the few split gains on validation; None where no setting of it both
            gains something and keeps the limits.
        overall_drop: Points that all classes together lose.
        worth: Its few-split gain with about as much slack as is asked for (see
            `alphafix.metrics.limits.worth_of`). For methods that are about as good as the best in
            this see `alphafix.rivals.data.choose_method`.
    """

    method: str
    few_gain: float | None
    overall_drop: float | None
    worth: float | None = None


@dataclass(frozen=True)
class AutoChoice:
    """Which correction was chosen on validation, and how sure that is.

    Attributes:
        method: Its name; "base model" where nothing beats that within the limits.
        few_gain: Points that the few split gains, with the interval ``few_gain_interval``.
        overall_drop: Points that all classes together lose, with its interval.
        promise: What this says of fresh samples.
        tried: Figures of every method that was tried.
        left_out: Methods for which the time was up.
    """

    method: str
    few_gain: float
    few_gain_interval: tuple[float, float]
    overall_drop: float
    overall_drop_interval: tuple[float, float]
    promise: Promise
    tried: tuple[Tried, ...]
    left_out: tuple[str, ...] = ()

    def describe(self) -> str:
        """All of it in sentences."""
        if not self.few_gain:
            return f"{self.method}. {self.promise.describe()}"
        low, high = self.few_gain_interval
        least, most = self.overall_drop_interval
        told = (
            f"{self.method}: few-split {self.few_gain:+.1f} points [{low:+.1f}, {high:+.1f}], "
            f"overall {-self.overall_drop:+.1f} [{-most:+.1f}, {-least:+.1f}] on validation; "
            f"{self.promise.limits.describe()}."
        )
        own = max((one.worth or 0.0 for one in self.tried if one.method == self.method), default=0)
        if any((one.worth or 0.0) > own for one in self.tried):
            why = (
                "it is the one that does best on most data"
                if self.method == PREFERRED
                else "it makes the validation samples the likeliest"
            )
            told += (
                f" Of the methods whose gain is within two standard errors of the largest, {why}."
            )
        if self.promise.limits.promises:
            told += f" That confidence costs {self.promise.given_up:.1f} points of few-split gain."
        return told

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        return {**asdict(self), "promise": self.promise.to_dict(), "text": self.describe()}


def describe(data: FitData, outcome: Outcome, left_out: Sequence[str] = ()) -> AutoChoice:
    """Say what was chosen, with bootstrap intervals over the validation samples.

    A gain that was chosen as the largest of many is too large on average; the test set, which
    takes no part here, tells the truth.
    """
    promise = outcome.choice.promise
    if promise is None:
        raise InputError("a choice without limits promises nothing")
    found = outcome.fitted
    scorers = [data.head.logits, data.head.logits if found is None else found.logits]
    right = [predictions(s, data.val_features) == data.val_labels for s in scorers]
    drawn = bootstrap_accuracies(
        data.classes, data.val_labels, np.stack(right, axis=1), Resampling(DRAWS, data.seed)
    )
    low, high = interval(drawn[:, 1] - drawn[:, 0])
    return AutoChoice(
        method="base model" if found is None else found.method,
        few_gain=promise.few_gain,
        few_gain_interval=(float(low[FEW]), float(high[FEW])),
        overall_drop=promise.overall_drop,
        overall_drop_interval=(-float(high[OVERALL]), -float(low[OVERALL])),
        promise=promise,
        tried=tuple(
            Tried(name, None, None)
            if one is None
            else Tried(name, one.few_gain, one.overall_drop, one.worth)
            for name, one in outcome.by_method().items()
        ),
        left_out=tuple(left_out),
    )


def costs(methods: Sequence[str]) -> dict[str, float]:
    """What fitting each takes, in times of one trial of AlphaNet."""
    return {name: RIVALS[name].cost for name in methods}


def fit_auto(
    data: FitData,
    *,
    extra: Sequence[Offered] = (),
    methods: Sequence[str] = AUTO_METHODS,
    finished: FinishedMethods | None = None,
    progress: Progress = silent,
) -> Correction:
    """Fit all linear methods and return the best correction that keeps the limits.

    Closed forms come first, then what is trained, the cheapest first, as long as the budget of
    ``data`` lasts.

    Args:
        data: What to fit on, with the user's limits.
        extra: More methods to choose from (AlphaNet, say, from `alphafix.rivals.alphanet`), which
            come first, so that they win a tie.
        methods: Names of the methods to fit; by default all that are compared unasked.
        finished: Where each trained method is kept as soon as it is done.
        progress: Told each method.

    Returns:
        The correction, or the base model where none is better within the limits; ``chosen.auto``
        tells which it is, by how much, and how sure.

    Raises:
        InputError: If one of the methods is no linear head.
    """
    for name in methods:
        if not RIVALS[name].linear:
            raise InputError(f"{name} is not a linear head", todo="leave it out of methods")
    order = sorted(methods, key=lambda name: (RIVALS[name].trains, RIVALS[name].cost))
    offers: dict[str, Offered] = {}
    left_out: list[str] = []
    data.budget.begin()
    with Whole(progress, FITTING, costs(methods)) as whole:

        def fitted(name: str) -> Offered:
            with whole.part(name):
                return offer(RIVALS[name], data, finished)[0]

        with Workers(MOST_AT_ONCE, data.budget.stop) as workers:
            running = {name: workers.do(partial(fitted, name)) for name in order}
            for name, one in running.items():
                try:
                    offers[name] = one.result()
                except OutOfTime:
                    left_out.append(name)
    if left_out:
        logger.warning("the time was up for: %s", ", ".join(left_out))
    outcome = choose_method(data, [*extra, *(offers[name] for name in methods if name in offers)])
    correction = correction_of(data, outcome.fitted, outcome, "auto")
    report = describe(data, outcome, left_out).to_dict()
    return replace(correction, chosen=replace(correction.chosen, auto=report))


def correction_of(data: FitData, found: Fitted | None, outcome: Outcome, method: str) -> Correction:
    """The correction of a fitted method with its promise, or the base model where there is none."""
    promise = outcome.choice.promise
    told = None if promise is None else promise.to_dict()
    if found is not None and found.correction is not None:
        correction = found.correction
        return replace(correction, chosen=replace(correction.chosen, promise=told))
    chosen = Chosen({"method": method}, data.base, data.base, promise=told)
    why = f"nothing gains anything on validation with {data.limits.describe()}"
    base = Correction.none(data.head, data.classes.few, chosen, method, why=why)
    return replace(base, curve=data.curve(data.contest_of(data.head.logits)))
