"""The output folder of a training: the model, how it is built and fed, and its figures.

``model.safetensors`` holds ``body.*`` (everything before the last linear operation) and
``head.weight`` and ``head.bias``; ``config.json`` says how to build it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alphafix.checkpoints import load_state_dict
from alphafix.checkpoints.weights import load_strictly
from alphafix.errors import InputError, call
from alphafix.files import read_object, write_json, write_tensors
from alphafix.oltr.models.export import ExportedModel
from alphafix.oltr.models.spec import Ablations, ModelSpec
from alphafix.oltr.models.transform import ImageTransform
from alphafix.oltr.training.methods import method
from alphafix.reading.boundary import reading
from alphafix.reading.schema import typed

CONFIG = "config.json"
MODEL = "model.safetensors"
EVALUATION = "evaluation.json"
FORMAT = 1


@dataclass(frozen=True)
class ModelConfig:
    """How an exported model is built and fed."""

    method: str
    spec: ModelSpec
    transform: ImageTransform
    names: tuple[str, ...]
    bias: bool

    def to_dict(self) -> dict[str, Any]:
        """The part of config.json that `read_config` reads."""
        return {
            "format": FORMAT,
            "method": self.method,
            "setting": {**asdict(self.spec), "counts": self.spec.counts.tolist()},
            "transform": self.transform.to_dict(),
            "names": list(self.names),
            "bias": self.bias,
        }

    def build(self) -> ExportedModel:
        """The model, its weights at random."""
        model = method(self.method).build_untrained(self.spec)
        weight, bias = model.head.linear()
        if self.bias and bias is None:
            bias = torch.zeros(len(weight))
        return ExportedModel(model, weight, bias if self.bias else None)


def write_model(
    folder: Path, model: ExportedModel, config: ModelConfig, more: Mapping[str, Any]
) -> None:
    """Write the model, then the config, which makes the folder one of a model."""
    tensors = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    note = {"value": "train-oltr model"}
    write_tensors(folder / MODEL, tensors, note, overwrite=True, sealed=False)
    write_json(folder / CONFIG, {**config.to_dict(), **more}, overwrite=True)


def load_model(folder: Path, weights: Path | None = None) -> tuple[ExportedModel, ModelConfig]:
    """The model of a folder, in evaluation mode on the CPU, and its config.

    Args:
        folder: The folder.
        weights: Other weights for the same architecture (a patched copy), or None for the
            folder's own.

    Raises:
        InputError: If it is no such folder, or the weights do not fit.
    """
    config = read_config(folder)
    file = weights or folder / MODEL
    model = config.build()
    load_strictly(model, load_state_dict(file), file=file, spec=f"oltr:{folder}")
    return model.eval(), config


def read_config(folder: Path) -> ModelConfig:
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
            todo=f"name the folder that {call('train-oltr')} printed",
        )
    what = f"a config of train-oltr in the format {FORMAT}"
    with reading(path, what, todo="train again, or use the version that wrote it"):
        return _config(read_object(path))


def _config(data: Mapping[str, Any]) -> ModelConfig:
    if data["format"] != FORMAT:
        raise ValueError(f"format {data['format']}")
    setting = typed(_Setting, data["setting"], "setting")
    counts = np.array(setting.counts, dtype=np.int64)
    return ModelConfig(
        method=typed(str, data["method"], "method"),
        spec=ModelSpec(**{**vars(setting), "counts": counts}),
        transform=typed(ImageTransform, data["transform"], "transform"),
        names=typed(tuple[str, ...], data["names"], "names"),
        bias=typed(bool, data["bias"], "bias"),
    )


@dataclass(frozen=True)
class _Setting:
    """A `ModelSpec` as config.json has it."""

    backbone: str
    counts: list[int]
    input_channels: int
    size: int
    width: int | None
    preset: str
    ablations: Ablations
    experts: int
