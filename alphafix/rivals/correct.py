"""Any method from values to a correction: AlphaNet, one of its rivals, or the best of all."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from alphafix.alphanet.fit import fit as fit_alphanet
from alphafix.alphanet.fit import train_trials
from alphafix.alphanet.given import Given
from alphafix.alphanet.kept import Keep
from alphafix.alphanet.pool import WIDER_POOL
from alphafix.alphanet.settings import FitSettings
from alphafix.errors import InputError, MissingStageError, option
from alphafix.features.store import validation_from
from alphafix.metrics.limits import DEFAULT_LIMITS, Limits
from alphafix.progress import Progress, Whole, silent
from alphafix.rivals import AUTO_METHODS, alphanet, linear_rival
from alphafix.rivals.auto import FITTING, correction_of, costs, fit_auto
from alphafix.rivals.budget import Budget
from alphafix.rivals.data import FitData, choose
from alphafix.rivals.held_out import TRAINED_ON, alphanet_on_refitted, choose_on_refitted
from alphafix.rivals.kept import FinishedMethods
from alphafix.values.correction import Correction

logger = logging.getLogger(__name__)

OTHERS = "other methods"


def correct(
    method: str,
    given: Given,
    settings: FitSettings,
    *,
    methods: Sequence[str] = ("alphanet", *AUTO_METHODS),
    seconds: float | None = None,
    keep: Keep | None = None,
    finished: FinishedMethods | None = None,
    progress: Progress = silent,
) -> Correction:
    """Fit a method and choose its setting on validation.

    Args:
        method: "alphanet", one of `alphafix.rivals.LINEAR_METHODS`, or "auto": the one with the
            largest few-split gain that keeps the limits, or one that cannot be told from it.
        given: Features, head, class table and neighbours; validation features may be missing for
            AlphaNet alone.
        settings: How AlphaNet is trained; the limits, the first seed, and whether what is worse
            than the base model may be given hold for all methods.
        methods: What "auto" chooses from; "alphanet" is AlphaNet with either pool.
        seconds: What the trained methods among these, but for AlphaNet, may take together.
        keep: Where AlphaNet's finished trials are kept (see `alphafix.alphanet.fit`).
        finished: Where "auto" keeps each trained method as soon as it is done.
        progress: Told of long work.

    Returns:
        The correction; the base model where none beats it within the limits.

    Raises:
        InputError: If the values do not fit together.
        MissingStageError: If something is to be chosen and there are no validation samples.
    """
    limits = settings.limits
    if method != "alphanet" and not limits:
        limits = replace(DEFAULT_LIMITS, confidence=limits.confidence)
    if settings.holdout is not None:
        return _on_held_out(method, given, settings, limits, keep, progress)
    if method == "alphanet":
        return fit_alphanet(given, settings, keep=keep, progress=progress)
    given.check()
    train, val, seed = given.train, given.val, settings.seeds[0]
    if val is None:
        raise MissingStageError(
            f"{option('method', method)} chooses its settings on validation features",
            got="training features only",
            expected="features of the split val",
            todo=f"{validation_from(train)}, or hold training features out with "
            f"{option('holdout', 0.2)} and {option('holdout_head', 'crt')}",
        )
    data = FitData(train, val, given.head, given.classes, limits, seed, Budget(seconds))
    if method == "auto":
        biased = given.head.bias is not None
        wider = replace(settings, pool=WIDER_POOL)
        pools = [settings] if settings.pool == WIDER_POOL else [settings, wider]
        pools = pools if "alphanet" in methods else []
        rivals = [name for name in methods if name != "alphanet"]
        trials = float(len(settings.rhos) * len(settings.seeds))
        parts = {f"AlphaNet, {one.pool}": trials for one in pools}
        extra = []
        with Whole(progress, "auto", {**parts, OTHERS: sum(costs(rivals).values())}) as whole:
            for part, one in zip(parts, pools, strict=True):
                with whole.part(part) as told:
                    ours = train_trials(given, one, keep=keep, progress=told)
                extra.append(alphanet.offer(data, ours, calibrated=biased))
            with whole.part(OTHERS, moved_by=FITTING) as told:
                return fit_auto(data, extra=extra, methods=rivals, finished=finished, progress=told)
    with progress(method, 1) as advance:
        outcome = choose(data, [linear_rival(method).offer(data)])
        advance(1)
    found = outcome.fitted
    if found is None and settings.allow_worse:
        found = outcome.safest
    return correction_of(data, found, outcome, method)


def _on_held_out(
    method: str,
    given: Given,
    settings: FitSettings,
    limits: Limits,
    keep: Keep | None,
    progress: Progress,
) -> Correction:
    """Choose on training samples that are held out; see `alphafix.rivals.held_out`."""
    replace(given, val=None).check()
    if settings.holdout_head is not None:
        if method == "alphanet":
            return alphanet_on_refitted(given, settings, keep=keep, progress=progress)
        return choose_on_refitted(method, given, settings, limits, keep=keep, progress=progress)
    if limits or settings.calibrate:
        what = "an offset" if not limits else f"{option('method', method)} within limits"
        raise InputError(
            f"{what} cannot be chosen on held-out samples with the given head",
            got=f"{option('holdout', settings.holdout)}: the head was trained on these samples, so "
            "that the base model is nearly perfect there, and what a correction costs cannot be "
            "seen",
            expected="samples that the head was not trained on, or a head that was not trained on "
            "them",
            todo=f"give {option('holdout_head', 'crt')} (or ce, for a head that was trained on "
            "samples as they come), which refits a head without them to choose on, or extract "
            "validation images",
        )
    logger.warning("%s", TRAINED_ON)
    # Whether it beats the base model is what cannot be seen there.
    found = fit_alphanet(given, replace(settings, allow_worse=True), keep=keep, progress=progress)
    chosen = replace(found.chosen, settings={**found.chosen.settings, "held_out": TRAINED_ON})
    return replace(found, chosen=chosen, curve=None)
