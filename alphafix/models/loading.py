"""From a backbone's specification to a proven extractor of features."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from alphafix.checkpoints import find_head
from alphafix.checkpoints.formats.opening import find_file
from alphafix.errors import InputError, option
from alphafix.files import sha256_file
from alphafix.models.graphs import export_classifier, torchscript_classifier
from alphafix.models.hooked import HookedModel, find_head_module, linear_modules
from alphafix.models.libraries import (
    local_weights,
    python_classifier,
    timm_classifier,
    torchvision_classifier,
)
from alphafix.models.model import Caught, Classifier
from alphafix.models.oltr_models import oltr_classifier
from alphafix.models.onnx_models import onnx_classifier
from alphafix.models.preprocess import Overrides
from alphafix.models.proof import Reading, find_reading
from alphafix.models.transformers_models import transformers_classifier
from alphafix.values.head import Head, HeadSource

Loader = Callable[[str, "Path | None", Overrides], Classifier]

KINDS: dict[str, Loader] = {
    "timm": timm_classifier,
    "torchvision": torchvision_classifier,
    "python": python_classifier,
    "hf": transformers_classifier,
    "oltr": oltr_classifier,
    "torchscript": torchscript_classifier,
    "export": export_classifier,
    "onnx": onnx_classifier,
}


def load_classifier(spec: str, weights: Path | None, overrides: Overrides) -> Classifier:
    """Load the classifier that ``spec`` names.

    Args:
        spec: ``timm:NAME``, ``torchvision:NAME``, ``python:package.module:function``,
            ``hf:DIR``, ``oltr:DIR``, ``torchscript:FILE``, ``export:FILE.pt2`` or ``onnx:FILE``.
        weights: The checkpoint, where the specification does not name it itself.
        overrides: Changes to the model's own transform.

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
    return KINDS[kind](name, weights, overrides)


# Kinds whose name is a file or a folder.
_FILES = ("torchscript", "export", "onnx", "hf", "oltr")


def own_file(spec: str) -> Path | None:
    """The file with the model's weights that a specification names itself, if it does.

    Raises:
        InputError: If it is not there.
    """
    kind, _, name = spec.partition(":")
    if kind == "timm" and name.startswith("local-dir:"):
        return local_weights(name)
    return find_file(Path(name)) if kind in _FILES else None


def without_folder(spec: str) -> str:
    """The specification as it is recorded: of a file its name alone."""
    kind, _, name = spec.partition(":")
    return f"{kind}:{Path(name).name}" if kind in _FILES else spec


def prove(
    classifier: Classifier, images: Tensor, *, precision: str, head: str | None = None
) -> tuple[nn.Module, Head, Reading]:
    """Find the head, and prove on a first batch that it gives the model's own logits.

    Args:
        classifier: The classifier, on the device that it is to run on.
        images: The first batch, on that device.
        precision: "fp32", "fp16" or "bf16".
        head: Name of the head module, if the user gave it.

    Returns:
        A model of N images to N x D features and N x C logits, the head in effect, and how the
        logits follow from features and head.

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
    reading = find_reading(features, logits, caught.weight, caught.bias, precision=precision)
    return caught.model, _head(classifier, caught, reading), reading


def _catch(classifier: Classifier, images: Tensor, head: str | None) -> Caught:
    name = _head_name(classifier, images, head)
    part = classifier.module.get_submodule(name)
    model = HookedModel(classifier.module, part, classifier.logits_of)
    weight = part.get_parameter("weight")
    return Caught(model, weight, part._parameters.get("bias"), f"{name}.weight")


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
    rows = reading.features(caught.weight.detach().float().cpu())
    bias = None if caught.bias is None else caught.bias.detach().float().cpu().numpy()
    source = None
    if classifier.weights is not None:
        source = _source(classifier.weights, caught, reading)
    return Head(weight=rows.numpy(), bias=bias, scale=reading.scale, source=source)


def _source(weights: Path, caught: Caught, reading: Reading) -> HeadSource:
    """Where the head is in the checkpoint, so that it can be patched there."""
    if weights.suffix == ".pt2":  # named here, though its rows cannot be patched in place
        return HeadSource(weights.name, sha256_file(weights), weights=(caught.name,))
    classes, width = caught.weight.shape
    stored = find_head(
        weights,
        num_classes=classes,
        width=width,
        name=caught.name,
        normalised=reading.normalised,
        scale=reading.scale,
    )
    rows = reading.features(caught.weight.detach().float().cpu()).numpy()
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
