"""Any method from values to a correction: AlphaNet, one of its rivals, or the best of all."""

from __future__ import annotations

from dataclasses import replace

from alphafix.alphanet.fit import fit as fit_alphanet
from alphafix.alphanet.fit import train_trials
from alphafix.alphanet.given import Given
from alphafix.alphanet.kept import Keep
from alphafix.alphanet.pool import WIDER_POOL
from alphafix.alphanet.settings import FitSettings
from alphafix.alphanet.sources import hold_out
from alphafix.errors import MissingStageError, call, option
from alphafix.metrics.limits import DEFAULT_LIMITS
from alphafix.progress import Progress, silent
from alphafix.rivals import alphanet, linear_rival
from alphafix.rivals.auto import correction_of, fit_auto
from alphafix.rivals.data import FitData, choose
from alphafix.values.correction import Correction


def correct(
    method: str,
    given: Given,
    settings: FitSettings,
    *,
    keep: Keep | None = None,
    progress: Progress = silent,
) -> Correction:
    """Fit a method and choose its setting on validation.

    Args:
        method: "alphanet", one of `alphafix.rivals.LINEAR_METHODS`, or "auto": the one with the
            largest few-split gain that keeps the limits.
        given: Features, head, class table and neighbours; validation features may be missing for
            AlphaNet alone.
        settings: How AlphaNet is trained; the limits, the first seed, and whether what is worse
            than the base model may be given hold for all methods.
        keep: Where AlphaNet's finished trials are kept (see `alphafix.alphanet.fit`).
        progress: Told of long work.

    Returns:
        The correction; the base model where none beats it within the limits.

    Raises:
        InputError: If the values do not fit together.
        MissingStageError: If something is to be chosen and there are no validation samples.
    """
    if method == "alphanet":
        return fit_alphanet(given, settings, keep=keep, progress=progress)
    given.check()
    train, val, seed = given.train, given.val, settings.seeds[0]
    if settings.holdout is not None:
        kept, held = hold_out(train, settings.holdout, seed=seed)
        train, val = kept.features(), held.features()
    if val is None:
        raise MissingStageError(
            f"{option('method', method)} chooses its settings on validation features",
            got="training features only",
            expected="features of the split val",
            todo=f"run {call('extract', split='val')}, hold training features out with "
            f"{option('holdout', 0.2)}, or make validation of training images: "
            f"{call('extract', val_fraction=0.2, overwrite=True)}",
        )
    limits = settings.limits
    if not limits:
        limits = replace(DEFAULT_LIMITS, confidence=limits.confidence)
    data = FitData(train, val, given.head, given.classes, limits, seed)
    if method == "auto":
        biased = given.head.bias is not None
        wider = replace(settings, pool=WIDER_POOL)
        ours = [
            train_trials(given, one, keep=keep, progress=progress)
            for one in ([settings] if settings.pool == WIDER_POOL else [settings, wider])
        ]
        extra = [alphanet.offer(data, trials, calibrated=biased) for trials in ours]
        return fit_auto(data, extra=extra, progress=progress)
    with progress(method, 1) as advance:
        outcome = choose(data, [linear_rival(method).offer(data)])
        advance(1)
    found = outcome.fitted
    if found is None and settings.allow_worse:
        found = outcome.safest
    return correction_of(data, found, outcome, method)
