"""Any method from values to a correction: AlphaNet, one of its rivals, or the best of all."""

from __future__ import annotations

import logging
from dataclasses import replace

from alphafix.alphanet.fit import fit as fit_alphanet
from alphafix.alphanet.given import Given
from alphafix.alphanet.kept import Keep
from alphafix.alphanet.settings import FitSettings
from alphafix.alphanet.sources import hold_out
from alphafix.errors import InputError, MissingStageError, call, option
from alphafix.progress import Progress, silent
from alphafix.rivals import alphanet, fit_method
from alphafix.rivals.auto import fit_auto
from alphafix.rivals.data import FitData
from alphafix.values.correction import Correction

logger = logging.getLogger(__name__)

# Points of overall accuracy that a method may spend on validation where the user does not say.
DEFAULT_DROP = 2.0


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
            largest few-split gain that keeps the limit.
        given: Features, head, class table and neighbours; validation features may be missing for
            AlphaNet alone.
        settings: How AlphaNet is trained; the limit and the first seed hold for all methods.
        keep: Where AlphaNet's finished trials are kept (see `alphafix.alphanet.fit`).
        progress: Told of long work.

    Raises:
        InputError: If the values do not fit together, or no method keeps the limit.
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
    drop = DEFAULT_DROP if settings.max_overall_drop is None else settings.max_overall_drop
    data = FitData(train, val, given.head, given.classes, drop, seed=seed)
    if method != "auto":
        with progress(method, 1) as advance:
            correction = fit_method(method, data)
            advance(1)
        return correction
    extra = []
    try:
        limited = replace(
            settings,
            select="constrained",
            max_overall_drop=drop,
            calibrate=given.head.bias is not None,
        )
        ours = fit_alphanet(given, limited, keep=keep, progress=progress)
        extra.append(alphanet.offered(ours, data))
    except InputError as error:
        logger.info("AlphaNet is not among the choices: %s", error)
    return fit_auto(data, extra=extra, progress=progress)
