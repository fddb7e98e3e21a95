"""Backbones that train-oltr trained: ``oltr:DIR``."""

from __future__ import annotations

from pathlib import Path

from alphafix.models.model import Classifier, Wanted
from alphafix.models.preprocess import Normalization, Preprocess, resize_crop
from alphafix.oltr.models.transform import ImageTransform
from alphafix.oltr.training.folder import MODEL, load_model, read_config


def oltr_classifier(wanted: Wanted) -> Classifier:
    """Load a model from an output folder of train-oltr, or other weights for it.

    A model with a router is routed here too: it, too, ends in one linear head (see
    `alphafix.oltr.models.routing.RoutedRide`).

    Raises:
        InputError: If it is no such folder, or the weights do not fit.
    """
    wanted.refuse_args()
    wanted.overrides.refuse(wanted.spec)
    folder = Path(wanted.name)
    module, config = load_model(folder, wanted.weights)
    return Classifier(
        module=module,
        preprocess=preprocess_of(config.transform),
        weights=wanted.weights or folder / MODEL,
        head_name="head",
        class_names=config.names,
    )


def oltr_preprocess(wanted: Wanted) -> Preprocess:
    """The transform of such a folder's model, by itself."""
    return preprocess_of(read_config(Path(wanted.name)).transform)


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
