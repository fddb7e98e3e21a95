"""A trained model as it ships: the network up to the features, and a plain linear head.

``model.safetensors`` holds ``body.*`` (everything before the last linear operation) and
``head.weight`` and ``head.bias``, with cosine classifiers folded into plain rows, so that any
tool that corrects a linear layer can correct them; ``config.json`` says how to build it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from alphafix.errors import FileFormatError, InputError
from alphafix.files import read_json
from alphafix.oltr.heads import CosineClassifier, LinearHead
from alphafix.oltr.methods import Setting, method
from alphafix.oltr.model import LongTailModel
from alphafix.oltr.pipeline import build_untrained
from alphafix.oltr.presets import Ablations
from alphafix.oltr.transform import ImageTransform

CONFIG = "config.json"
MODEL = "model.safetensors"
FORMAT = 1


class ExportedModel(nn.Module):
    """A model that ends in one linear layer.

    Args:
        model: Its own last operation is taken out of it.
        weight: Rows of the head, C x D.
        bias: C, or None.

    Attributes:
        body: Maps images to an `Output` whose features enter the head.
        head: The linear head.
    """

    def __init__(self, model: LongTailModel, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.body = without_classifier(model)
        classes, width = weight.shape
        self.head = nn.Linear(width, classes, bias=bias is not None)
        with torch.no_grad():
            self.head.weight.copy_(weight)
            if bias is not None:
                self.head.bias.copy_(bias)

    def features(self, images: Tensor) -> Tensor:
        """Map B images to B x D features."""
        features: Tensor = self.body(images).features
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Map B images to B x C logits."""
        logits: Tensor = self.head(self.features(images))
        return logits


def export(
    model: LongTailModel, linear: tuple[Tensor, Tensor | None] | None = None
) -> ExportedModel:
    """Export a trained model, which is changed by it.

    Args:
        model: The model.
        linear: Weight and bias of another head on the same features, or None for its own.
    """
    with torch.no_grad():
        weight, bias = model.head.linear() if linear is None else linear
    return ExportedModel(model.cpu(), weight.detach().cpu(), None if bias is None else bias.cpu())


def without_classifier(model: LongTailModel) -> LongTailModel:
    """Take the last linear operation out of a model; its logits mean nothing afterwards."""
    for module in list(model.head.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, CosineClassifier) or isinstance(module, LinearHead):
                setattr(module, name, nn.Identity())
    return model


@dataclass(frozen=True)
class Config:
    """How an exported model is built and fed.

    Attributes:
        method: Name of its method.
        setting: What it is built for.
        transform: What makes its input of an image.
        names: C class names.
        bias: Whether its head has one.
    """

    method: str
    setting: Setting
    transform: ImageTransform
    names: tuple[str, ...]
    bias: bool

    def to_dict(self) -> dict[str, Any]:
        """The part of config.json that `read_config` reads."""
        setting = {**asdict(self.setting), "counts": self.setting.counts.tolist()}
        return {
            "format": FORMAT,
            "method": self.method,
            "setting": setting,
            "transform": self.transform.to_dict(),
            "names": list(self.names),
            "bias": self.bias,
        }

    def build(self) -> ExportedModel:
        """The model, its weights at random."""
        model = build_untrained(method(self.method), self.setting)
        weight, bias = model.head.linear()
        if self.bias and bias is None:
            bias = torch.zeros(len(weight))
        return ExportedModel(model, weight, bias if self.bias else None)


def read_config(folder: Path) -> Config:
    """Read config.json of an output folder of train-oltr.

    Raises:
        InputError: If there is none.
        FileFormatError: If it is not one that train-oltr wrote.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise InputError(
            f"{folder} is no model of train-oltr",
            got=f"no {path}",
            expected="the output folder of a training that is finished",
            todo="name the folder that `alphafix train-oltr` printed",
        )
    data = read_json(path)
    try:
        return _config(data)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise FileFormatError(
            f"{path} is not a config of train-oltr",
            got=repr(error),
            expected=f"the format {FORMAT}",
            todo="train again, or use the version that wrote it",
        ) from error


def _config(data: Mapping[str, Any]) -> Config:
    if data["format"] != FORMAT:
        raise ValueError(f"format {data['format']}")
    setting = dict(data["setting"])
    counts = np.array(setting.pop("counts"), dtype=np.int64)
    ablations = Ablations(**setting.pop("ablations"))
    return Config(
        method=str(data["method"]),
        setting=Setting(counts=counts, ablations=ablations, **setting),
        transform=ImageTransform.from_dict(data["transform"]),
        names=tuple(str(name) for name in data["names"]),
        bias=bool(data["bias"]),
    )
