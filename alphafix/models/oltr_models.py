"""Backbones that train-oltr trained: ``oltr:DIR``."""

from __future__ import annotations

from pathlib import Path

from alphafix.checkpoints.weights import load_strictly, read_state
from alphafix.models.model import Classifier
from alphafix.models.preprocess import Normalization, Overrides, Preprocess, resize_crop
from alphafix.oltr.export import MODEL, read_config
from alphafix.oltr.transform import ImageTransform


def oltr_classifier(name: str, weights: Path | None, overrides: Overrides) -> Classifier:
    """Load a model from an output folder of train-oltr.

    Args:
        name: The folder.
        weights: Other weights for the same architecture (a patched copy), or None for the
            folder's own.
        overrides: Must be empty: the folder says how images are prepared.

    Raises:
        InputError: If it is no such folder, or the weights do not fit.
    """
    spec = f"oltr:{name}"
    overrides.refuse(spec)
    config = read_config(Path(name))
    file = weights or Path(name) / MODEL
    module = config.build()
    load_strictly(module, read_state(file), file=file, spec=spec)
    return Classifier(
        module=module.eval(),
        preprocess=preprocess_of(config.transform),
        weights=file,
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
