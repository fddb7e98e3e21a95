"""From a backbone's specification to a proven extractor of features."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from alphafix.checkpoints import find_head
from alphafix.checkpoints.formats.onnx_format import OnnxFormat
from alphafix.checkpoints.formats.opening import EXPORT, find_file, format_of
from alphafix.checkpoints.formats.torchscript_format import TorchScriptFormat
from alphafix.errors import InputError, option
from alphafix.files import sha256_file
from alphafix.models.graphs import export_classifier, torchscript_classifier
from alphafix.models.hooked import HookedModel, find_head_module, linear_modules
from alphafix.models.libraries import (
    code_of,
    local_weights,
    python_classifier,
    python_preprocess,
    timm_classifier,
    timm_preprocess,
    torchvision_classifier,
    torchvision_preprocess,
)
from alphafix.models.model import Caught, Classifier, Wanted
from alphafix.models.oltr_models import oltr_classifier, oltr_preprocess
from alphafix.models.onnx_models import onnx_classifier
from alphafix.models.preprocess import Overrides, Preprocess, resize_crop
from alphafix.models.products import find_product
from alphafix.models.proof import (
    FEW,
    TOLERANCE,
    Reading,
    find_reading,
    relative_error,
    require_steady,
)
from alphafix.models.timm_config import from_timm_config
from alphafix.models.transformers_models import transformers_classifier, transformers_preprocess
from alphafix.oltr.training.folder import CONFIG
from alphafix.values.head import Head, HeadSource

logger = logging.getLogger(__name__)

GRAPHS: dict[str, Callable[[Wanted], Classifier]] = {
    "torchscript": torchscript_classifier,
    "export": export_classifier,
    "onnx": onnx_classifier,
}

KINDS: dict[str, Callable[[Wanted], Classifier]] = {
    "timm": timm_classifier,
    "torchvision": torchvision_classifier,
    "python": python_classifier,
    "hf": transformers_classifier,
    "oltr": oltr_classifier,
    **GRAPHS,
}

# The transforms of models that are no graphs, by themselves.
TRANSFORMS: dict[str, Callable[[Wanted], Preprocess]] = {
    "timm": timm_preprocess,
    "torchvision": torchvision_preprocess,
    "python": python_preprocess,
    "hf": transformers_preprocess,
    "oltr": oltr_preprocess,
}


def load_classifier(
    spec: str,
    weights: Path | None,
    overrides: Overrides,
    *,
    section: str = "",
    args: Mapping[str, Any] | None = None,
    transform: Mapping[str, Any] | None = None,
) -> Classifier:
    """Load the classifier that ``spec`` names.

    Weights that are a graph (an export as ONNX or TorchScript) run by themselves, with the
    transform of the model that ``spec`` names.

    Args:
        spec: ``timm:NAME``, ``torchvision:NAME``, ``python:package.module:function``,
            ``hf:DIR``, ``oltr:DIR``, ``torchscript:FILE``, ``export:FILE.pt2`` or ``onnx:FILE``.
        weights: The checkpoint, where the specification does not name it itself.
        overrides: Changes to the model's own transform.
        section: The part of a torch file that the weights are in.
        args: Arguments that the model was made with.
        transform: The record of the transform that features were made with, to be used again.

    Raises:
        InputError: If the specification is not understood, or the model cannot be loaded
            strictly.
    """
    kind, colon, name = spec.partition(":")
    if not colon or kind not in KINDS or not name:
        raise InputError(
            "the backbone is not understood",
            got=repr(spec),
            expected=", ".join(f"{known}:..." for known in KINDS),
            todo=f"for example {option('backbone', 'timm:resnet50')}; the library is never guessed",
        )
    again = None if transform is None else _made_again(transform)
    wanted = Wanted(kind, name, weights, overrides, section, args or {}, again)
    graph = None if weights is None else graph_kind(weights)
    if graph is not None and graph != kind:
        if kind in GRAPHS:
            raise InputError(
                f"{weights} is a model of another kind than the backbone",
                got=graph,
                expected=kind,
                todo=f"give {option('backbone', f'{graph}:{weights}')}",
            )
        own = again or TRANSFORMS[kind](wanted)
        wanted = Wanted(graph, name, weights, preprocess=own)
        kind = graph
    found = KINDS[kind](wanted)
    if again is not None:
        return replace(found, preprocess=again)
    if transform is not None and _plain(found.preprocess.record) != _plain(transform):
        logger.warning("%s: images are prepared otherwise than for the stored features", spec)
    return found


def graph_kind(file: Path) -> str | None:
    """The kind of backbone that a model file is by itself; None if it holds weights alone."""
    file = find_file(file)
    if file.suffix == EXPORT:
        return "export"
    kinds = {OnnxFormat.name: "onnx", TorchScriptFormat.name: "torchscript"}
    return kinds.get(format_of(file).name)


def _made_again(record: Mapping[str, Any]) -> Preprocess | None:
    """The transform that a manifest describes, if it describes all of it."""
    origin = str(record.get("origin"))
    values: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in record.items()
    }
    if "crop_mode" in values:
        return from_timm_config(values, Overrides(), origin=origin)
    if {"resize", "size", "interpolation", "mean", "std"} <= values.keys():
        return resize_crop(**values)
    return None


def _plain(record: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(dict(record), default=str))


# Kinds whose name is a file or a folder.
FILES = ("torchscript", "export", "onnx", "hf", "oltr")

# What lies beside the weights in folders of each kind, and decides what they compute.
_SETTINGS = {
    "hf": ("config.json", "preprocessor_config.json", "processor_config.json"),
    "oltr": (CONFIG,),
}


def own_file(spec: str) -> Path | None:
    """The file with the model's weights that a specification names itself, if it does.

    Raises:
        InputError: If it is not there.
    """
    kind, _, name = spec.partition(":")
    if kind == "timm" and name.startswith("local-dir:"):
        return local_weights(name)
    return find_file(Path(name)) if kind in FILES else None


def made_by(spec: str, weights: Path | None) -> tuple[Path, ...]:
    """The files besides the weights that decide what a model computes, as far as they are there.

    These are settings that lie beside the weights, and the code of the user's own function.
    """
    kind, _, name = spec.partition(":")
    if kind == "python":
        return code_of(name)
    if kind == "timm" and name.startswith("local-dir:"):
        beside = [Path(name.removeprefix("local-dir:")) / "config.json"]
    elif kind == "timm" and weights is not None:
        beside = [weights.parent / "config.json"]
    elif kind in _SETTINGS:
        beside = [Path(name) / file for file in _SETTINGS[kind]]
    else:
        beside = []
    return tuple(file for file in beside if file.is_file())


def without_folder(spec: str) -> str:
    """The specification as it is recorded: of a file its name alone."""
    kind, _, name = spec.partition(":")
    return f"{kind}:{Path(name).name}" if kind in FILES else spec


def prove(
    classifier: Classifier, images: Tensor, *, precision: str, head: str | None = None
) -> tuple[Caught, Head, Reading]:
    """Find the head, and prove on a first batch that it gives the model's own logits.

    Args:
        classifier: The classifier, on the device that it is to run on.
        images: The first batch, on that device.
        precision: "fp32", "fp16" or "bf16".
        head: Name of the head module, if the user gave it.

    Returns:
        A model of N images to N x D features and N x C logits with its head's tensors, the head in
        effect, and how the logits follow from features and head.

    Raises:
        InputError: If there is no such head, or its logits are not the model's.
    """
    if classifier.caught is not None and head not in (None, classifier.caught.name):
        raise InputError(
            f"{head} is not the head of the graph",
            got=head,
            expected=f"{classifier.caught.name}, which makes its logits",
            todo=f"leave {option('head')} out",
        )
    caught = classifier.caught or _catch(classifier, images, head)
    features, logits = caught.model(images)
    precision = max(precision, classifier.precision, key=list(TOLERANCE).index)
    few = images[: max(1, min(FEW, len(images) // 2))]
    require_steady(logits, caught.model(few)[1], precision=precision)
    reading = find_reading(
        features,
        logits,
        caught.weight,
        caught.bias,
        precision=precision,
        lengths_count=lambda: caught.plain_rows or _lengths_count(caught, images, logits),
    )
    return caught, _head(classifier, caught, reading), reading


def _lengths_count(caught: Caught, images: Tensor, logits: Tensor) -> bool:
    """Whether another length of a row gives other logits: tried, and put back."""
    row = caught.weight.detach()[0]
    kept = row.clone()
    try:
        row.mul_(2)
        _, changed = caught.model(images)
    finally:
        row.copy_(kept)
    return relative_error(changed, logits) > TOLERANCE["fp32"]


def _catch(classifier: Classifier, images: Tensor, head: str | None) -> Caught:
    module, logits_of = classifier.module, classifier.logits_of
    wanted = head or classifier.head_name
    if wanted is not None and wanted not in dict(module.named_modules()):
        # No module but a tensor of the model, which it multiplies features with itself.
        tensors = dict(module.named_parameters()) | dict(module.named_buffers())
        product = wanted in tensors and find_product(module, images, logits_of, name=wanted)
        if product:
            return product
    try:
        name = _head_name(classifier, images, head)
    except InputError:
        product = wanted is None and find_product(module, images, logits_of)
        if not product:
            raise
        return product
    part = module.get_submodule(name)
    weight, bias = part.get_parameter("weight"), part._parameters.get("bias")
    return Caught(HookedModel(module, part, logits_of), weight, bias, f"{name}.weight")


def _head_name(classifier: Classifier, images: Tensor, wanted: str | None) -> str:
    name = wanted or classifier.head_name
    if name is None:
        return find_head_module(classifier.module, images, classifier.logits_of)
    linears = linear_modules(classifier.module)
    if name not in linears:
        part = dict(classifier.module.named_modules()).get(name)
        raise InputError(
            f"the head {name} is no linear layer of the model",
            got=f"a {type(part).__name__}" if part is not None else "no module of that name",
            expected=f"one of {', '.join(list(linears)[-5:]) or '(the model has none)'}",
            todo=f"alphafix corrects the rows of a linear layer; name it with {option('head')}",
        )
    return name


def _head(classifier: Classifier, caught: Caught, reading: Reading) -> Head:
    rows = reading.rows(caught.weight.detach().float().cpu())
    bias = None if caught.bias is None else caught.bias.detach().float().cpu().numpy()
    source = None
    if classifier.weights is not None:
        source = _source(classifier.weights, caught, reading)
    return Head(weight=rows.numpy(), bias=bias, scale=reading.scale, source=source)


def _source(weights: Path, caught: Caught, reading: Reading) -> HeadSource:
    """Where the head is in the checkpoint, so that it can be patched there."""
    if weights.suffix == EXPORT:  # named here, though its rows cannot be patched in place
        return HeadSource(weights.name, sha256_file(weights), weights=(caught.name,))
    classes, width = caught.weight.shape
    stored = find_head(
        weights,
        num_classes=classes,
        width=width,
        name=caught.name or None,  # frozen tensors have none: found by their shape
        normalised=reading.rows_normalised,
        scale=reading.scale,
    )
    rows = reading.rows(caught.weight.detach().float().cpu()).numpy()
    # Stored and loaded rows are the same numbers; float16 files and norms differ by rounding.
    if not np.allclose(stored.weight, rows, rtol=1e-3, atol=1e-3 * float(np.abs(rows).max())):
        raise InputError(
            f"the head in {weights} is not that of the model",
            got=f"another tensor {caught.name}",
            expected="the weights that the model runs with",
            todo="give the checkpoint that the model was loaded or exported from",
        )
    if stored.source is None:  # `find_head` always says where
        raise InputError(f"{weights} does not say where its head is")
    return stored.source
