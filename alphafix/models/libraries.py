"""Backbones by name in a library (timm, torchvision), and by the user's own function."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import itertools
import logging
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from alphafix.checkpoints.weights import (
    load_strictly,
    named_for,
    num_classes_in,
    read_weights,
    require_weights,
)
from alphafix.errors import InputError, Words, option
from alphafix.files import read_json
from alphafix.models.model import AmbiguousModelError, Classifier, Variants, Wanted
from alphafix.models.preprocess import (
    Preprocess,
    described,
    flags_to_give,
    resize_crop,
    resize_of,
)
from alphafix.models.timm_config import from_timm_config

logger = logging.getLogger(__name__)

# Prefixes under which timm finds a whole model by itself: architecture, config and weights.
TIMM_SOURCES = ("hf-hub:", "hf_hub:", "local-dir:")


def timm_classifier(wanted: Wanted) -> Classifier:
    """Load a timm model.

    Its arguments are those that the user gives, and those in a config.json that timm saved beside
    the weights. Weights are not needed for names with ``hf-hub:`` and ``local-dir:``.

    Raises:
        InputError: If timm has no such model, or the weights do not fit.
    """
    import timm

    name, spec, weights = wanted.name, wanted.spec, wanted.weights
    args = dict(wanted.args)
    config: dict[str, Any] = {}
    variants = None
    if name.startswith(TIMM_SOURCES) and weights is None:
        model = _create(spec, lambda: timm.create_model(name, pretrained=True, **args))
        weights = local_weights(name)
    else:
        file = require_weights(weights, spec)
        saved, config = _saved_beside(file, name)
        args = saved | args
        state = read_weights(file, section=wanted.section, spec=spec, averaged_first=True)
        sketch = _sketch(spec, lambda: timm.create_model(name, **args))
        state, head = named_for(sketch, state), _timm_head(sketch, spec)
        args.setdefault("num_classes", num_classes_in(state, head, file=file, spec=spec))
        model = _create(spec, lambda: timm.create_model(name, **args))
        load_strictly(model, state, file=file, spec=spec)
        if not {"global_pool", "fc_norm"} & args.keys() and not config:
            variants = _other_pooling(model, wanted, args)
    own: Any = model.pretrained_cfg
    config = {**own, **config}
    return Classifier(
        model.eval(),
        _timm_preprocess(config, wanted, args),
        weights,
        _timm_head(model, spec),
        class_names=_label_names(config),
        args=args,
        variants=variants,
    )


def timm_preprocess(wanted: Wanted) -> Preprocess:
    """The transform of a timm model by itself."""
    import timm

    sketch: Any = _sketch(wanted.spec, lambda: timm.create_model(wanted.name, **wanted.args))
    return _timm_preprocess(sketch.pretrained_cfg, wanted, wanted.args)


def _timm_preprocess(
    config: Mapping[str, Any], wanted: Wanted, args: Mapping[str, Any]
) -> Preprocess:
    size, overrides = args.get("img_size"), wanted.overrides
    if isinstance(size, int) and overrides.image_size is None:
        overrides = replace(overrides, image_size=size)
    changes = " with changes" if overrides.given else ""
    return from_timm_config(
        config,
        overrides,
        origin=f"{wanted.spec} data config{changes}",
        channels=args.get("in_chans"),
    )


def _saved_beside(weights: Path, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments and data config of a config.json beside the weights, if it is of this model."""
    path = weights.parent / "config.json"
    data = read_json(path) if path.is_file() else None
    if not isinstance(data, dict) or data.get("architecture") != name.partition(".")[0]:
        return {}, {}
    args = {**(data.get("model_args") or {})}
    if isinstance(data.get("global_pool"), str):
        args.setdefault("global_pool", data["global_pool"])
    args.pop("num_classes", None)  # the weights say it
    logger.info("%s: made as %s says%s", weights.name, path.name, f", with {args}" if args else "")
    labels = {name: data[name] for name in ("label_names", "num_classes") if data.get(name)}
    return args, {**(data.get("pretrained_cfg") or {}), **labels}


def _label_names(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Class names in the order of the logits, as timm keeps them: a list, or names by class id."""
    names = config.get("label_names") or ()
    if isinstance(names, Mapping):
        by_id = {int(number): name for number, name in names.items() if str(number).isdecimal()}
        names = [by_id[number] for number in range(len(names)) if number in by_id]
    return tuple(map(str, names)) if names and len(names) == config.get("num_classes") else None


# How timm's models pool; with an own norm for what is pooled, or not, weights have other names.
_POOLS = ("token", "avg", "max", "avgmax")
_NORMS: tuple[dict[str, Any], ...] = ({}, {"fc_norm": False})


def _other_pooling(model: Any, wanted: Wanted, args: Mapping[str, Any]) -> Variants | None:
    """What the model would give if it pooled otherwise, which its weights cannot tell."""
    pools = [getattr(part, "pool_type", None) for part in model.modules()]
    own = getattr(model, "global_pool", None)
    found = own if isinstance(own, str) else next((p for p in pools if isinstance(p, str)), None)
    if not found:
        return None
    logger.info(
        "%s pools with %r, the library's default: the weights do not tell (if yours was made "
        "otherwise: %s)",
        wanted.spec,
        found,
        Words(option("model_arg", "global_pool=NAME")),
    )

    @functools.cache
    def others() -> list[tuple[dict[str, Any], Any]]:
        return list(_of_other_pools(model, wanted, args, but=found))

    def variants(images: Tensor) -> Iterator[tuple[Mapping[str, Any], Tensor]]:
        if others():
            before = model.forward_features(images)
            yield {"global_pool": found}, model.forward_head(before)
            for own, other in others():
                yield own, other.forward_head(before)

    return variants


def _of_other_pools(
    model: nn.Module, wanted: Wanted, args: Mapping[str, Any], *, but: str
) -> Iterator[tuple[dict[str, Any], nn.Module]]:
    """Models with the same weights that pool otherwise, each with the arguments that make it."""
    import timm

    tensors = dict(model.state_dict(keep_vars=True))
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    for pool, norm in itertools.product(_POOLS, _NORMS):
        own = {"global_pool": pool, **norm}
        if pool == but:
            continue
        try:
            with torch.device("meta"):
                other = _create(
                    wanted.spec,
                    lambda own=own: timm.create_model(wanted.name, **{**args, **own}),
                )
        except (InputError, AssertionError, NotImplementedError):
            continue  # it takes no such argument
        if {name: tensor.shape for name, tensor in other.state_dict().items()} == shapes:
            other.load_state_dict(tensors, assign=True)
            yield own, other.eval()


def _sketch(spec: str, make: Any) -> nn.Module:
    """The model without memory for its weights, unless its code computes with them."""
    try:
        with torch.device("meta"):
            return _create(spec, make)
    except InputError:  # some versions of timm read numbers out of tensors
        return _create(spec, make)


def _create(spec: str, make: Any) -> nn.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of how weights would be initialised
            model: nn.Module = make()
    except TypeError as error:
        raise InputError(
            f"{spec} cannot be made with these arguments",
            got=str(error).splitlines()[0],
            expected="arguments that the library's function takes",
            todo=f"correct {option('model_arg')}",
        ) from error
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
    """The weights file of a ``local-dir:`` name, the one that timm takes; None for others."""
    folder = Path(name.removeprefix("local-dir:"))
    for file in ("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth"):
        if name.startswith("local-dir:") and (folder / file).is_file():
            return folder / file
    return None


def torchvision_classifier(wanted: Wanted) -> Classifier:
    """Load a torchvision classification model.

    The transform is that of the library's first published weights of this architecture,
    unless overridden.

    Raises:
        InputError: If torchvision has no such model, the weights do not fit, or they fit several
            models that compute differently.
    """
    from torchvision import models

    name, spec, args = wanted.name, wanted.spec, dict(wanted.args)
    file = require_weights(wanted.weights, spec)
    state = read_weights(file, section=wanted.section, spec=spec)
    sketch = _sketch(spec, lambda: models.get_model(name, weights=None, **args))
    if hasattr(sketch, "transform_input"):
        if "transform_input" not in args:
            raise AmbiguousModelError(
                f"the weights of {spec} fit two models that compute differently",
                ({"transform_input": True}, {"transform_input": False}),
                got=f"no {option('model_arg', 'transform_input=...')}",
                expected="whether the model changes the scale of its input: True for models that "
                "were made with torchvision's own weights, False for those made without",
                todo=f"give {option('model_arg', 'transform_input=True')} or "
                f"{option('model_arg', 'transform_input=False')}",
            )
        args.setdefault("init_weights", False)  # which would take a while, to be overwritten
    state, head = named_for(sketch, state), last_linear(sketch, spec)
    args.setdefault("num_classes", num_classes_in(state, head, file=file, spec=spec))
    model = _create(spec, lambda: models.get_model(name, weights=None, **args))
    load_strictly(model, state, file=file, spec=spec)
    return Classifier(model.eval(), torchvision_preprocess(wanted), file, head, args=args)


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


def torchvision_preprocess(wanted: Wanted) -> Preprocess:
    """The transform of a torchvision model by itself."""
    from torchvision import models

    name, overrides = wanted.name, wanted.overrides
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
        made_for=(preset.crop_size[0], preset.crop_size[0]),
    )


def python_classifier(wanted: Wanted) -> Classifier:
    """Call the user's own function for a model.

    The name is ``package.module:function``; the function takes the arguments that are given, or
    none, and returns a module that gives logits. The module has a ``transform`` (PIL image ->
    tensor), or a timm-like ``pretrained_cfg`` or ``default_cfg``; otherwise flags say all of it.
    If it has ``get_classifier()``, that is its head. Without weights the function loads them.

    Raises:
        InputError: If there is no such function, or it does not return such a module.
    """
    model, weights = _call(wanted), wanted.weights
    if weights is not None:
        state = read_weights(weights, section=wanted.section, spec=wanted.spec)
        load_strictly(model, state, file=weights, spec=wanted.spec)
    return Classifier(
        model.eval(),
        _python_preprocess(model, wanted),
        weights,
        _own_head(model),
        args=wanted.args,
    )


def python_preprocess(wanted: Wanted) -> Preprocess:
    """The transform of a model that the user's own function makes, by itself."""
    return _python_preprocess(_call(wanted), wanted)


def code_of(name: str) -> tuple[Path, ...]:
    """The file with the user's own function, as ``package.module:function`` names it.

    What that file imports in its turn is not known here.
    """
    _work_from_here()
    try:
        found = importlib.util.find_spec(name.partition(":")[0])
    except (ImportError, ValueError):  # which `python_classifier` tells
        return ()
    place = None if found is None else found.origin
    return (Path(place),) if place and Path(place).is_file() else ()


def _work_from_here() -> None:
    """As `python -m` does: the user's own files are found from the folder they work in."""
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))


def _call(wanted: Wanted) -> nn.Module:
    spec, (module, _, function) = wanted.spec, wanted.name.partition(":")
    _work_from_here()
    try:
        made = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"{spec} is not there",
            got=str(error),
            expected="python:package.module:function that can be imported from here",
            todo="check the name, or install the package",
        ) from error
    model = made(**wanted.args)
    if not isinstance(model, nn.Module):
        raise InputError(
            f"{spec} gave no model", got=type(model).__name__, expected="a torch.nn.Module"
        )
    return model


def _own_head(model: nn.Module) -> str | None:
    getter = getattr(model, "get_classifier", None)
    head = getter() if callable(getter) else None
    return next((name for name, part in model.named_modules() if part is head), None)


def _python_preprocess(model: nn.Module, wanted: Wanted) -> Preprocess:
    spec, overrides = wanted.spec, wanted.overrides
    transform = getattr(model, "transform", None)
    if callable(transform):
        overrides.refuse(spec)
        return Preprocess(transform, None, None, {"origin": f"{spec} transform"})
    for name in ("pretrained_cfg", "default_cfg"):
        config = getattr(model, name, None)
        if config:
            return from_timm_config(config, overrides, origin=f"{spec} {name}")
    if overrides.given:
        return described(spec, overrides)
    raise InputError(
        f"{spec} does not say how images become its input",
        got=f"a {type(model).__name__} without transform, pretrained_cfg or default_cfg",
        expected="an attribute `transform` that maps a PIL image to a tensor",
        todo=f"set it in the function: model.transform = ...; or {flags_to_give()}",
    )
