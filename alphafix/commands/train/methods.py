"""Other methods than AlphaNet for `alphafix train --method`, on the same features."""

from __future__ import annotations

from dataclasses import replace

from alphafix.commands.train.options import TrainOptions
from alphafix.errors import InputError, MissingStageError
from alphafix.features.store import FeatureStore
from alphafix.progress import Progress, silent
from alphafix.rivals import alphanet, fit_method
from alphafix.rivals.auto import fit_auto
from alphafix.rivals.material import Material
from alphafix.run.directory import CLASSES, HEAD, Provenance, Run
from alphafix.values.classes import ClassTable
from alphafix.values.correction import Correction
from alphafix.values.head import Head

# Points of overall accuracy that may be spent where the user does not say.
DEFAULT_DROP = 2.0


def allowed_drop(options: TrainOptions) -> float:
    """Points of overall accuracy that a method may spend on validation."""
    return DEFAULT_DROP if options.max_overall_drop is None else options.max_overall_drop


def require_validation(run: Run, method: str) -> None:
    """Check that there are validation features, before any long work.

    Raises:
        MissingStageError: If not.
    """
    if not run.has(run.manifest("val")):
        raise MissingStageError(
            f"--method {method} chooses its settings on validation features",
            got="training features only",
            expected="features of the split val",
            todo="run `alphafix extract --split val`, or use --method alphanet",
        )


def fit_other(
    options: TrainOptions,
    provenance: Provenance,
    *,
    ours: Correction | None = None,
    progress: Progress = silent,
) -> Correction:
    """Fit ``options.method``: a linear rival, or the best of all under the user's limit.

    Args:
        options: Which method, for which run directory.
        provenance: How the result is made.
        ours: AlphaNet's correction, for "auto" to choose from.
        progress: Told each method.

    Raises:
        InputError: If the method gives no linear head, or none keeps the limit.
    """
    run = Run(options.run)
    train, val = (FeatureStore.open(run.features(split)) for split in ("train", "val"))
    head, classes = Head.load(run.require(HEAD)), ClassTable.load(run.require(CLASSES))
    if (val.width, val.num_classes) != (train.width, train.num_classes):
        raise InputError(
            "training and validation features do not fit together",
            got=f"val: {val.num_classes} classes, width {val.width}",
            expected=f"train: {train.num_classes} classes, width {train.width}",
            todo="extract both with the same model and class order",
        )
    head.require_match(width=train.width, num_classes=train.num_classes)
    classes.require_correctable()
    drop = allowed_drop(options)
    material = Material.of(train, val, head, classes, max_overall_drop=drop, seed=options.seed)
    if options.method == "auto":
        extra = [] if ours is None else [alphanet.offered(ours, material)]
        correction = fit_auto(material, extra=extra, progress=progress)
    else:
        with progress(options.method, 1) as advance:
            correction = fit_method(options.method, material)
            advance(1)
    return replace(correction, provenance=provenance.to_dict())
