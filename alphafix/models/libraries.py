"""Backbones by name in a library (timm, torchvision), and by the user's own function."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from alphafix.checkpoints import load_state_dict
from alphafix.checkpoints.weights import load_strictly, num_classes_in, require_weights
from alphafix.errors import InputError
from alphafix.models.model import Classifier
from alphafix.models.preprocess import Overrides, Preprocess, resize_crop, resize_of
from alphafix.models.timm_config import from_timm_config

# Prefixes under which timm finds a whole model by itself: architecture, config and weights.
TIMM_SOURCES = ("hf-hub:", "hf_hub:", "local-dir:")


def timm_classifier(name: str, weights: Path | None, overrides: Overrides) -> Classifier:
    """Load a timm model.

    Args:
        name: As `timm.create_model` takes it.
        weights: The checkpoint; not needed for ``hf-hub:`` and ``local-dir:`` names.
        overrides: Changes to the transform.

    Raises:
        InputError: If timm has no such model, or the weights do not fit.
    """
    import timm

    spec = f"timm:{name}"
    if name.startswith(TIMM_SOURCES) and weights is None:
        model = _create(spec, lambda: timm.create_model(name, pretrained=True))
        weights = local_weights(name)
    else:
        file = require_weights(weights, spec)
        state = load_state_dict(file)
        sketch = _sketch(spec, lambda: timm.create_model(name))
        head = _timm_head(sketch, spec)
        classes = num_classes_in(state, head, file=file, spec=spec)
        model = _create(spec, lambda: timm.create_model(name, num_classes=classes))
        load_strictly(model, state, file=file, spec=spec)
    config: Any = model.pretrained_cfg
    preprocess = from_timm_config(config, overrides, origin=f"{spec} data config")
    return Classifier(model.eval(), preprocess, weights, _timm_head(model, spec))


def _sketch(spec: str, make: Any) -> nn.Module:
    """The model without memory for its weights, unless its code computes with them."""
    try:
        with torch.device("meta"):
            return _create(spec, make)
    except InputError:  # some versions of timm read numbers out of tensors
        return _create(spec, make)


def _create(spec: str, make: Any) -> nn.Module:
    try:
        model: nn.Module = make()
    except (RuntimeError, ValueError, OSError, KeyError) as error:
        raise InputError(
            f"{spec} cannot be made",
            got=str(error).splitlines()[0] if str(error) else repr(error),
            expected="a model name that the library knows",
            todo='look the name up with `python -c "import timm; print(timm.list_models())"` '
            "or torchvision.models.list_models()",
        ) from error
    return model


def _timm_head(model: nn.Module, spec: str) -> str:
    config: Any = model.pretrained_cfg
    names: object = config.get("classifier")
    if not isinstance(names, str):
        raise InputError(
            f"{spec} has no single head",
            got=f"{names}: its logits are made by several layers",
            expected="one linear layer",
            todo="use the model without distillation heads",
        )
    return names


def local_weights(name: str) -> Path | None:
    """The weights file of a ``local-dir:`` name; None for others."""
    folder = Path(name.removeprefix("local-dir:"))
    for file in ("model.safetensors", "pytorch_model.bin"):
        if name.startswith("local-dir:") and (folder / file).is_file():
            return folder / file
    return None


def torchvision_classifier(name: str, weights: Path | None, overrides: Overrides) -> Classifier:
    """Load a torchvision classification model.

    The transform is that of the library's first published weights of this architecture,
    unless overridden.

    Raises:
        InputError: If torchvision has no such model, or the weights do not fit.
    """
    from torchvision import models

    spec = f"torchvision:{name}"
    file = require_weights(weights, spec)
    state = load_state_dict(file)
    sketch = _sketch(spec, lambda: models.get_model(name, weights=None))
    head = last_linear(sketch, spec)
    classes = num_classes_in(state, head, file=file, spec=spec)
    model = _create(spec, lambda: models.get_model(name, weights=None, num_classes=classes))
    load_strictly(model, state, file=file, spec=spec)
    return Classifier(model.eval(), _torchvision_preprocess(name, overrides), file, head)


def last_linear(module: nn.Module, spec: str) -> str:
    """Name of the last linear layer.

    Raises:
        InputError: If there is none.
    """
    names: list[str] = [n for n, part in module.named_modules() if isinstance(part, nn.Linear)]
    if not names:
        raise InputError(
            f"{spec} has no linear layer",
            got="a classifier of other layers (convolutions?)",
            expected="a linear head",
            todo="alphafix corrects the rows of a linear layer; use such a model",
        )
    return names[-1]


def _torchvision_preprocess(name: str, overrides: Overrides) -> Preprocess:
    from torchvision import models

    published = next(iter(models.get_model_weights(name)))
    preset = published.transforms()
    given = overrides.given
    side = given.get("image_size", preset.crop_size[0])
    resize = preset.resize_size[0]
    if "crop_pct" in given or "image_size" in given:
        pct = given.get("crop_pct", preset.crop_size[0] / preset.resize_size[0])
        resize = resize_of((side, side), pct)
    return resize_crop(
        resize=resize,
        size=(side, side),
        interpolation=given.get("interpolation", preset.interpolation.value),
        mean=given.get("mean", tuple(preset.mean)),
        std=given.get("std", tuple(preset.std)),
        origin=f"torchvision {published}" + (" with changes" if given else ""),
    )


def python_classifier(target: str, weights: Path | None, overrides: Overrides) -> Classifier:
    """Call the user's own function for a model.

    Args:
        target: ``package.module:function``; the function takes no arguments and returns a
            module that gives logits. The module has a ``transform`` (PIL image -> tensor), or
            a timm-like ``pretrained_cfg`` or ``default_cfg``. If it has ``get_classifier()``,
            that is its head.
        weights: The checkpoint, or None if the function loads the weights itself.
        overrides: Changes to the transform.

    Raises:
        InputError: If there is no such function, or it does not return such a module.
    """
    spec = f"python:{target}"
    model = _call(target, spec)
    if weights is not None:
        load_strictly(model, load_state_dict(weights), file=weights, spec=spec)
    return Classifier(
        model.eval(), _python_preprocess(model, spec, overrides), weights, _own_head(model)
    )


def _call(target: str, spec: str) -> nn.Module:
    module, _, function = target.partition(":")
    # As `python -m` does: the user's own files are found from the folder they work in.
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        made = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"{spec} is not there",
            got=str(error),
            expected="python:package.module:function that can be imported from here",
            todo="check the name, or install the package",
        ) from error
    model = made()
    if not isinstance(model, nn.Module):
        raise InputError(
            f"{spec} gave no model", got=type(model).__name__, expected="a torch.nn.Module"
        )
    return model


def _own_head(model: nn.Module) -> str | None:
    getter = getattr(model, "get_classifier", None)
    head = getter() if callable(getter) else None
    return next((name for name, part in model.named_modules() if part is head), None)


def _python_preprocess(model: nn.Module, spec: str, overrides: Overrides) -> Preprocess:
    transform = getattr(model, "transform", None)
    if callable(transform):
        overrides.refuse(spec)
        return Preprocess(transform, None, None, {"origin": f"{spec} transform"})
    for name in ("pretrained_cfg", "default_cfg"):
        config = getattr(model, name, None)
        if config:
            return from_timm_config(config, overrides, origin=f"{spec} {name}")
    raise InputError(
        f"{spec} does not say how images become its input",
        got=f"a {type(model).__name__} without transform, pretrained_cfg or default_cfg",
        expected="an attribute `transform` that maps a PIL image to a tensor",
        todo="set it in the function: model.transform = ...",
    )
