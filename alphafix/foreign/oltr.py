"""Checkpoints of OLTR's official code as models that `oltr:DIR` reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from alphafix.checkpoints.weights import load_strictly
from alphafix.errors import InputError
from alphafix.foreign.checkpoints import networks, read_tensors
from alphafix.oltr.models.export import ExportedModel
from alphafix.oltr.models.spec import OFFICIAL, Ablations, ModelSpec
from alphafix.oltr.models.transform import ImageTransform
from alphafix.oltr.training.folder import ModelConfig

# Residual blocks a layer, and whether they are bottlenecks, of the networks that the code has.
_BACKBONES = {
    (1, 1, 1, 1, False): "resnet10",
    (3, 4, 6, 3, True): "timm:resnet50",
    (3, 8, 36, 3, True): "timm:resnet152",
}

# Where parts of the official networks are in an exported model.
_PARTS = {
    "fc_add.": "body.network.fc_add.",
    "modulatedatt.fc_spatial.": "body.network.attention.spatial.",
    "fc_hallucinator.": "body.head.memory.hallucinator.",
    "fc_selector.": "body.head.memory.selector.",
}

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Official:
    """A converted checkpoint.

    Attributes:
        model: The model, with its weights.
        config: How it is built and fed.
    """

    model: ExportedModel
    config: ModelConfig


def official_oltr(path: Path, names: tuple[str, ...] | None = None) -> Official:
    """Convert a checkpoint of either stage of OLTR's code.

    The first stage is a network with a linear classifier. The second one has modulated
    attention, a memory (its centroids lie beside the weights) and a cosine classifier, which
    is folded into rows 16 w / ‖w‖.

    Args:
        path: The checkpoint, or the folder of its final_model_checkpoint.pth.
        names: C class names; their numbers by default.

    Raises:
        InputError: If it is of another architecture.
        FileFormatError: If it is damaged.
    """
    tensors = read_tensors(path)
    body, classifier = networks(tensors, path)
    linear = "fc.weight" in classifier
    first = next((k for k in ("fc.weight", "cosnorm_classifier.weight") if k in classifier), None)
    if first is None or (not linear and "centroids" not in tensors):
        raise InputError(
            f"{path} is no checkpoint of OLTR",
            got=", ".join(list(classifier)[:6]),
            expected="a classifier fc, or fc_hallucinator, fc_selector and cosnorm_classifier "
            "with centroids beside them",
        )
    classes = len(classifier[first])
    prefix, backbone = _backbone(body, path)
    spec = ModelSpec(
        backbone=backbone,
        # The checkpoint does not say how many samples each class had; only training asks.
        counts=np.ones(classes, dtype=np.int64),
        width=len(body["fc_add.bias"]) if "fc_add.bias" in body else None,
        ablations=Ablations(attention="modulatedatt.fc_spatial.weight" in body),
    )
    config = ModelConfig(
        method="plain" if linear else "oltr",
        spec=spec,
        transform=ImageTransform(),
        names=names or tuple(map(str, range(classes))),
        bias=linear,
    )
    state = _network(body, prefix) | (
        _linear(classifier) if linear else _memory(classifier, tensors["centroids"])
    )
    model = config.build()
    load_strictly(model, state, file=path, spec=f"OLTR's {backbone}")
    return Official(model, config)


def _backbone(body: Tensors, path: Path) -> tuple[str, str]:
    """Where the backbone's tensors are in the model, and its name."""
    depths = [
        len({name.split(".")[1] for name in body if name.startswith(f"layer{layer}.")})
        for layer in range(1, 5)
    ]
    deep = "layer1.0.conv3.weight" in body
    known = _BACKBONES.get((depths[0], depths[1], depths[2], depths[3], deep))
    if known is None:
        raise InputError(
            f"the network in {path} is none of OLTR's",
            got=f"{depths} {'bottleneck' if deep else 'basic'} blocks",
            expected="ResNet-10, ResNet-50 or ResNet-152",
        )
    inner = "model." if known.startswith("timm:") else ""
    return f"body.network.backbone.body.{inner}", known


def _network(body: Tensors, prefix: str) -> Tensors:
    state: Tensors = {}
    attention: Tensors = {}
    for name, tensor in body.items():
        part = next((p for p in _PARTS if name.startswith(p)), None)
        if part is not None:
            state[_PARTS[part] + name[len(part) :]] = tensor
        elif name.startswith("modulatedatt."):
            attention[name.removeprefix("modulatedatt.")] = tensor
        else:
            state[prefix + name] = tensor
    if attention:
        state |= _attention(attention)
        spatial = "body.network.attention.spatial.weight"
        # Positions come before channels here, and after them there.
        positions, inputs = state[spatial].shape
        per_channel = state[spatial].reshape(positions, inputs // positions, positions)
        state[spatial] = per_channel.transpose(1, 2).reshape(positions, inputs)
    return state


def _attention(parts: Tensors) -> Tensors:
    """The non-local block: its 1 x 1 convolutions as linear layers, three of them in one."""
    place = "body.network.attention.self_attention."
    order = ("theta", "phi", "g")
    return {
        f"{place}embed.weight": torch.cat([parts[f"{n}.weight"].flatten(1) for n in order]),
        f"{place}embed.bias": torch.cat([parts[f"{n}.bias"] for n in order]),
        f"{place}out.weight": parts["conv_mask.weight"].flatten(1),
    }


def _linear(classifier: Tensors) -> Tensors:
    return {"head.weight": classifier["fc.weight"], "head.bias": classifier["fc.bias"]}


def _memory(classifier: Tensors, centroids: Tensor) -> Tensors:
    state = {
        _PARTS[part] + name[len(part) :]: tensor
        for name, tensor in classifier.items()
        for part in _PARTS
        if name.startswith(part)
    }
    rows = torch.nn.functional.normalize(classifier["cosnorm_classifier.weight"], dim=1)
    return state | {
        "body.head.centroids": centroids,
        "head.weight": rows * OFFICIAL.cosine_scale,
    }
