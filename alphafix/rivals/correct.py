"""Any method from values to a correction: AlphaNet, one of its rivals, or the best of all."""

from __future__ import annotations

import logging
from dataclasses import replace

from alphafix.alphanet.fit import fit as fit_alphanet
from alphafix.alphanet.kept import Keep
from alphafix.alphanet.settings import FitSettings
from alphafix.alphanet.task import require_fitting
from alphafix.errors import InputError, MissingStageError, call, option
from alphafix.features.store import FeatureStore
from alphafix.progress import Progress, silent
from alphafix.rivals import alphanet, fit_method
from alphafix.rivals.auto import fit_auto
from alphafix.rivals.data import FitData
from alphafix.values.classes import ClassTable
from alphafix.values.correction import Correction
from alphafix.values.head import Head
from alphafix.values.neighbors import Neighbours

logger = logging.getLogger(__name__)

# Points of overall accuracy that a method may spend on validation where the user does not say.
DEFAULT_DROP = 2.0


def correct(
    method: str,
    train: FeatureStore,
    val: FeatureStore | None,
    head: Head,
    classes: ClassTable,
    neighbours: Neighbours,
    settings: FitSettings,
    *,
    keep: Keep | None = None,
    progress: Progress = silent,
) -> Correction:
    """Fit a method and choose its setting on validation.

    Args:
        method: "alphanet", one of `alphafix.rivals.LINEAR_METHODS`, or "auto": the one with the
            largest few-split gain that keeps the limit.
        train: Training features and labels.
        val: Validation features and labels; None will do for AlphaNet alone.
        head: The head to correct.
        classes: The class table.
        neighbours: The neighbours of its few-split classes, for AlphaNet.
        settings: How AlphaNet is trained; the limit and the first seed hold for all methods.
        keep: Where AlphaNet's finished trials are kept (see `alphafix.alphanet.fit`).
        progress: Told of long work.

    Raises:
        InputError: If the values do not fit together, or no method keeps the limit.
        MissingStageError: If something is to be chosen and there are no validation samples.
    """

    def alphanet_by(settings: FitSettings) -> Correction:
        return fit_alphanet(
            train, val, head, classes, neighbours, settings, keep=keep, progress=progress
        )

    if method == "alphanet":
        return alphanet_by(settings)
    if val is None:
        raise MissingStageError(
            f"{option('method', method)} chooses its settings on validation features",
            got="training features only",
            expected="features of the split val",
            todo=f"run {call('extract', split='val')}, or use {option('method', 'alphanet')}",
        )
    require_fitting(train, val, head, classes)
    drop = DEFAULT_DROP if settings.max_overall_drop is None else settings.max_overall_drop
    data = FitData(train, val, head, classes, max_overall_drop=drop, seed=settings.seeds[0])
    if method != "auto":
        with progress(method, 1) as advance:
            correction = fit_method(method, data)
            advance(1)
        return correction
    extra = []
    try:
        ours = alphanet_by(
            replace(
                settings,
                select="constrained",
                max_overall_drop=drop,
                calibrate=head.bias is not None,
            )
        )
        extra.append(alphanet.offered(ours, data))
    except InputError as error:
        logger.info("AlphaNet is not among the choices: %s", error)
    return fit_auto(data, extra=extra, progress=progress)
