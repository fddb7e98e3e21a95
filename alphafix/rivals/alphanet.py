"""AlphaNet in the form of the rivals, on the given head or on that of another method."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from alphafix.alphanet.combine import combinations
from alphafix.alphanet.fit import train_trials
from alphafix.alphanet.given import Given
from alphafix.alphanet.settings import FitSettings
from alphafix.errors import InputError
from alphafix.rivals.closed_forms import best_few_offset
from alphafix.rivals.data import FitData, Fitted, linear
from alphafix.values.arrays import FloatArray64
from alphafix.values.correction import Correction
from alphafix.values.neighbors import Neighbours
from alphafix.values.trials import Trials


def fitted(name: str, data: FitData, trials: Trials) -> list[Fitted]:
    """One method for each rho: the mean of its seeds' corrected rows."""
    head, few = data.head, data.classes.few
    return [
        linear(
            f"{name} rho {one.rho:g}",
            data,
            one.rows(head.weight, few) * head.scale,
            one.biases * head.scale,
            classes=few,
            settings={"rho": one.rho, "k": one.k, "seeds": len(one.trials)},
        )
        for one in combinations(trials, ensemble="mean")
    ]


def offered(correction: Correction, data: FitData) -> Fitted:
    """A correction that was trained elsewhere, to be chosen from or compared with.

    Raises:
        InputError: If it belongs to a head of another shape.
    """
    logits = correction.apply(data.head).logits
    settings = correction.chosen.to_dict()
    return Fitted(correction.method, logits, settings, data.validate(logits), correction)


def calibrated(found: Fitted, data: FitData) -> Fitted:
    """A linear method with one more scalar on its few-split logits (as few-bias has)."""
    correction = found.correction
    if correction is None:
        return found
    head = correction.apply(data.head)
    extra = best_few_offset(data, head.logits(data.val_features))
    changed = np.union1d(correction.classes, data.classes.few)
    biases: FloatArray64 = head.bias_or_zeros.astype(np.float64) * head.scale
    biases[data.classes.few] += extra
    return linear(
        f"{found.method} + few-bias",
        data,
        head.weight[changed] * head.scale,
        biases[changed],
        classes=changed,
        settings={**found.settings, "offset": extra},
    )


def on_top(found: Fitted, data: FitData, neighbours: Neighbours, settings: FitSettings) -> Fitted:
    """AlphaNet on the head of another linear method; its rows count from the given head.

    Args:
        found: The other method.
        data: What it was fitted on.
        neighbours: For AlphaNet.
        settings: How AlphaNet is trained, with one rho.

    Raises:
        InputError: If the other method is no linear head.
    """
    if found.correction is None:
        raise InputError(f"{found.method} is not a linear head, so AlphaNet cannot correct it")
    head = found.correction.apply(data.head)
    # Its own rule is not used: only AlphaNet's choice of an epoch looks at validation.
    inner = replace(data, head=head)
    trials = train_trials(Given(data.train, data.val, head, data.classes, neighbours), settings)
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
