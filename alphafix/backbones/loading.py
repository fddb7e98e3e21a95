"""From a backbone's specification to a proven extractor of features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from alphafix.backbones.hooked import HookedModel, find_head_module, linear_modules
from alphafix.backbones.libraries import (
    python_classifier,
    timm_classifier,
    torchvision_classifier,
)
from alphafix.backbones.model import Classifier
from alphafix.backbones.preprocess import Overrides
from alphafix.backbones.proof import Reading, find_reading
from alphafix.checkpoints import find_head
from alphafix.errors import InputError
from alphafix.head import Head

Loader = Callable[[str, "Path | None", Overrides], Classifier]

KINDS: dict[str, Loader] = {
    "timm": timm_classifier,
    "torchvision": torchvision_classifier,
    "python": python_classifier,
}


def load_classifier(spec: str, weights: Path | None, overrides: Overrides) -> Classifier:
    """Load the classifier that ``spec`` names.

    Args:
        spec: ``timm:NAME``, ``torchvision:NAME`` or ``python:package.module:function``.
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
            todo="for example --backbone timm:resnet50; the library is never guessed",
        )
    return KINDS[kind](name, weights, overrides)


@dataclass(frozen=True)
class Proven:
    """A classifier whose head and features are proven to be its own.

    Attributes:
        model: Maps N images to N x D features and N x C logits.
        head: The head in effect.
        reading: How the logits follow from features and head.
    """

    model: nn.Module
    head: Head
    reading: Reading


def prove(
    classifier: Classifier, images: Tensor, *, precision: str, head: str | None = None
) -> Proven:
    """Find the head, and prove on a first batch that it gives the model's own logits.

    Args:
        classifier: The classifier, on the device that it is to run on.
        images: The first batch, on that device.
        precision: "fp32", "fp16" or "bf16".
        head: Name of the head module, if the user gave it.

    Raises:
        InputError: If there is no such head, or its logits are not the model's.
    """
    name = _head_name(classifier, images, head)
    part = classifier.module.get_submodule(name)
    weight, bias = part._parameters["weight"], part._parameters.get("bias")
    if weight is None:  # `linear_modules` gives none of these
        raise InputError(f"the head {name} has no weight")
    model = HookedModel(classifier.module, part, classifier.logits_of)
    features, logits = model(images)
    reading = find_reading(features, logits, weight, bias, precision=precision)
    return Proven(model, _head(classifier, name, weight, bias, reading), reading)


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
            todo="alphafix corrects the rows of a linear layer; name it with --head",
        )
    return name


def _head(
    classifier: Classifier, name: str, weight: Tensor, bias: Tensor | None, reading: Reading
) -> Head:
    source = None
    if classifier.weights is not None:
        stored = find_head(
            classifier.weights,
            num_classes=weight.shape[0],
            width=weight.shape[1],
            name=f"{name}.weight",
            normalised=reading.normalised,
            scale=reading.scale,
        )
        source = stored.source
    rows = reading.features(weight.detach().float().cpu())
    biases = None if bias is None else bias.detach().float().cpu().numpy()
    return Head(weight=rows.numpy(), bias=biases, scale=reading.scale, source=source)
