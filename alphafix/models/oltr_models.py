"""Backbones that train-oltr trained: ``oltr:DIR``."""

from __future__ import annotations

from pathlib import Path

from alphafix.models.model import Classifier
from alphafix.models.preprocess import Normalization, Overrides, Preprocess, resize_crop
from alphafix.oltr.models.transform import ImageTransform
from alphafix.oltr.training.folder import MODEL, load_model


def oltr_classifier(name: str, weights: Path | None, overrides: Overrides) -> Classifier:
    """Load a model from an output folder of train-oltr.

    A model with a router is routed here too: it, too, ends in one linear head (see
    `alphafix.oltr.models.routing.RoutedRide`).

    Args:
        name: The folder.
        weights: Other weights for the same architecture (a patched copy), or None for the
            folder's own.
        overrides: Must be empty: the folder says how images are prepared.

    Raises:
        InputError: If it is no such folder, or the weights do not fit.
    """
    overrides.refuse(f"oltr:{name}")
    module, config = load_model(Path(name), weights)
    return Classifier(
        module=module,
        preprocess=preprocess_of(config.transform),
        weights=weights or Path(name) / MODEL,
        head_name="head",
        class_names=config.names,
    )


def preprocess_of(transform: ImageTransform) -> Preprocess:
    """The transform of a test, as extraction takes it."""
    origin = "the training's own test transform"
    if transform.channels == 3 and not transform.square:
        return resize_crop(
            resize=transform.resize,
            size=(transform.size, transform.size),
            interpolation="bilinear",
            mean=transform.mean,
            std=transform.std,
            origin=origin,
        )
    return Preprocess(
        transform,
        Normalization(transform.mean, transform.std),
        None,
        {"origin": origin, **transform.to_dict()},
    )
