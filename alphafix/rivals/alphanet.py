"""AlphaNet in the form of the rivals, on the given head or on that of another method."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from alphafix.alphanet.combine import Combination, combinations
from alphafix.alphanet.fit import train_trials
from alphafix.alphanet.given import Given
from alphafix.alphanet.kept import Keep
from alphafix.alphanet.pool import WIDER_POOL
from alphafix.alphanet.settings import FitSettings
from alphafix.errors import InputError
from alphafix.metrics.trade_off import Path
from alphafix.progress import Progress, silent
from alphafix.rivals.data import FitData, Fitted, Offered, linear
from alphafix.values.arrays import FloatArray64
from alphafix.values.neighbors import Neighbours
from alphafix.values.trials import Trials

# AlphaNet whose pool holds the class's own discriminant row too.
WITH_OWN = "alphanet-lda"


def fitted(name: str, data: FitData, trials: Trials) -> list[Fitted]:
    """One method for each rho: the mean of its seeds' corrected rows."""
    return [_fitted(name, data, one) for one in combinations(trials, ensemble="mean")]


def _fitted(name: str, data: FitData, one: Combination, offset: float | None = None) -> Fitted:
    """A combination as a method, with an offset on its few-split logits if there is one."""
    head, few = data.head, data.classes.few
    found: dict[str, float] = {} if offset is None else {"offset": offset}
    pool = {} if one.own is None else {"pool": WIDER_POOL}
    return linear(
        f"{name} rho {one.rho:g}" + ("" if offset is None else " + few-bias"),
        data,
        one.rows(head.weight, few) * head.scale,
        one.biases * head.scale + (offset or 0.0),
        classes=few,
        settings={"rho": one.rho, "k": one.k, "seeds": len(one.trials), **pool, **found},
    )


def offer(data: FitData, trials: Trials, *, calibrated: bool = True) -> Offered:
    """AlphaNet with every rho of the trials, each with every offset on its few-split logits.

    Args:
        data: What to choose on.
        trials: The trained trials.
        calibrated: Whether there are offsets.
    """
    found = combinations(trials, ensemble="mean")
    name = "alphanet" if trials.own is None else WITH_OWN
    paths = [
        Path(data.contest_of(_fitted(name, data, one).logits), free=calibrated) for one in found
    ]

    def build(place: int, offset: float) -> Fitted:
        made = _fitted(name, data, found[place], offset if calibrated else None)
        if made.correction is None:
            return made
        return replace(made, correction=replace(made.correction, trials=trials))

    return Offered(f"{name} + few-bias" if calibrated else name, paths, build)


def calibrated(found: Fitted, data: FitData) -> Offered:
    """A linear method with one more scalar on its few-split logits (as few-bias has).

    Raises:
        InputError: If it is no linear head.
    """
    correction = found.correction
    if correction is None:
        raise InputError(f"{found.method} is not a linear head, so its rows have no offset")
    head = correction.apply(data.head)
    changed = np.union1d(correction.classes, data.classes.few)
    name = f"{found.method} + few-bias"

    def build(_: int, offset: float) -> Fitted:
        biases: FloatArray64 = head.bias_or_zeros.astype(np.float64) * head.scale
        biases[data.classes.few] += offset
        return linear(
            name,
            data,
            head.weight[changed] * head.scale,
            biases[changed],
            classes=changed,
            settings={**found.settings, "offset": offset},
        )

    return Offered(name, [Path(data.contest_of(found.logits), free=True)], build)


def on_top(
    found: Fitted,
    data: FitData,
    neighbours: Neighbours,
    settings: FitSettings,
    *,
    keep: Keep | None = None,
    progress: Progress = silent,
) -> Fitted:
    """AlphaNet on the head of another linear method; its rows count from the given head.

    Args:
        found: The other method.
        data: What it was fitted on.
        neighbours: For AlphaNet.
        settings: How AlphaNet is trained, with one rho.
        keep: Where finished trials on this head are kept.
        progress: Told of long work.

    Raises:
        InputError: If the other method is no linear head.
    """
    if found.correction is None:
        raise InputError(f"{found.method} is not a linear head, so AlphaNet cannot correct it")
    head = found.correction.apply(data.head)
    # Its own rule is not used: only AlphaNet's choice of an epoch looks at validation.
    inner = replace(data, head=head)
    given = Given(data.train, data.val, head, data.classes, neighbours)
    trials = train_trials(given, settings, keep=keep, progress=progress)
    (one,) = fitted("alphanet", inner, trials)
    if one.correction is None:
        raise InputError("AlphaNet gave no correction")
    final = one.correction.apply(head)
    changed = np.union1d(found.correction.classes, data.classes.few)
    rho, seeds = settings.rhos[0], len(settings.seeds)
    return linear(
        f"alphanet on {found.method}",
        data,
        final.weight[changed] * head.scale,
        final.bias_or_zeros[changed] * head.scale,
        classes=changed,
        settings={
            "rho": rho,
            "k": one.settings["k"],
            "seeds": seeds,
            "below": found.settings,
        },
    )
