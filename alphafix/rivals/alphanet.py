"""AlphaNet in the form of the rivals, on the given head or on that of another method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from alphafix.alphanet.combine import Combination, combinations
from alphafix.alphanet.fit import train_on_heads
from alphafix.alphanet.given import Given
from alphafix.alphanet.kept import Keep
from alphafix.alphanet.pool import WIDER_POOL
from alphafix.alphanet.settings import FitSettings
from alphafix.errors import InputError
from alphafix.metrics.trade_off import Path
from alphafix.progress import Progress, silent
from alphafix.rivals.data import FitData, Fitted, Offered, linear
from alphafix.values.arrays import FloatArray64
from alphafix.values.correction import Correction
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
    below: Sequence[Fitted],
    data: FitData,
    neighbours: Neighbours,
    settings: FitSettings,
    *,
    keeps: Sequence[Keep | None] | None = None,
    progress: Progress = silent,
) -> list[Fitted]:
    """AlphaNet on the heads of other linear methods; its rows count from the given head.

    Args:
        below: The other methods.
        data: What they were fitted on.
        neighbours: For AlphaNet.
        settings: How AlphaNet is trained, with one rho.
        keeps: Where finished trials on the head of each are kept.
        progress: Told of long work.

    Raises:
        InputError: If one of the other methods is no linear head.
    """
    corrections = [_correction_of(one) for one in below]
    heads = [one.apply(data.head) for one in corrections]
    # Their own rules are not used: only AlphaNet's choice of an epoch looks at validation.
    given = Given(data.train, data.val, data.head, data.classes, neighbours)
    trained = train_on_heads(
        given, heads, settings, keeps=keeps or [None] * len(heads), progress=progress
    )
    few, found = data.classes.few, []
    for one, correction, head, trials in zip(below, corrections, heads, trained, strict=True):
        (mean,) = combinations(trials, ensemble="mean")
        final = head.with_rows(few, mean.rows(head.weight, few), mean.biases)
        changed = np.union1d(correction.classes, few)
        found.append(
            linear(
                f"alphanet on {one.method}",
                data,
                final.weight[changed] * head.scale,
                final.bias_or_zeros[changed] * head.scale,
                classes=changed,
                settings={
                    "rho": settings.rhos[0],
                    "k": mean.k,
                    "seeds": len(mean.trials),
                    "below": one.settings,
                },
            )
        )
    return found


def _correction_of(found: Fitted) -> Correction:
    if found.correction is None:
        raise InputError(f"{found.method} is not a linear head, so AlphaNet cannot correct it")
    return found.correction
