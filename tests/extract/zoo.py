"""Tiny real models of every kind that --backbone takes, each with its library's own answer."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from alphafix.values.arrays import FloatArray
from tests.extract.models import MEAN, NUM_CLASSES, SIZE, STD, Small, SmallNet, small_net

Logits = Callable[[list[Image.Image]], FloatArray]


@dataclass(frozen=True)
class Animal:
    """A model on disk.

    Attributes:
        options: What `alphafix extract` needs to know of it.
        logits: The logits of images, computed by the library itself.
    """

    options: dict[str, Any]
    logits: Logits


def _answer(model: torch.nn.Module, transform: Callable[[Image.Image], torch.Tensor]) -> Logits:
    def logits(images: list[Image.Image]) -> FloatArray:
        with torch.inference_mode():
            found = model.eval()(torch.stack([transform(image) for image in images]))
        return np.asarray(getattr(found, "logits", found))

    return logits


def _saved(model: torch.nn.Module, path: Path) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)
    return path


def timm_model(folder: Path) -> Animal:
    import timm
    from timm.data.config import resolve_data_config
    from timm.data.transforms_factory import create_transform

    model = timm.create_model("test_convnext", num_classes=NUM_CLASSES)
    resolve: Any = resolve_data_config
    config = resolve({"img_size": 32}, model=model)
    weights = _saved(model, folder / "timm.safetensors")
    options = {"backbone": "timm:test_convnext", "weights": weights, "image_size": 32}
    return Animal(options, _answer(model, create_transform(**config)))


def torchvision_model(folder: Path) -> Animal:
    from torchvision import models

    model = models.get_model("shufflenet_v2_x0_5", num_classes=NUM_CLASSES)
    # Saved as a training script does, from a wrapped model.
    weights = folder / "torchvision.pth"
    state = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, weights)
    options = {"backbone": "torchvision:shufflenet_v2_x0_5", "weights": weights, "image_size": 32}
    return Animal(options, _answer(model, torchvision_transform()))


def torchvision_transform() -> Any:
    """That of the model's published weights, for 32 x 32."""
    from torchvision import models, transforms

    preset = models.get_model_weights("shufflenet_v2_x0_5").DEFAULT.transforms()
    return transforms.Compose(
        [
            transforms.Resize(int(32 / (224 / 256))),
            transforms.CenterCrop(32),
            transforms.ToTensor(),
            transforms.Normalize(preset.mean, preset.std),
        ]
    )


def python_model(folder: Path) -> Animal:
    model = small_net()
    weights = _saved(model, folder / "python.safetensors")
    options = {"backbone": "python:tests.extract.models:small_net", "weights": weights}
    return Animal(options, _answer(model, Small()))


def transformers_model(folder: Path) -> Animal:
    import transformers

    fields: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "image_size": SIZE,
        "patch_size": 8,
        "id2label": {0: "ant", 1: "bee", 2: "cow"},
    }
    config = transformers.ViTConfig(**fields)
    model = transformers.ViTForImageClassification(config)
    processor = transformers.ViTImageProcessor(size={"height": SIZE, "width": SIZE})
    model.save_pretrained(folder / "hf")
    processor.save_pretrained(folder / "hf")

    def transform(image: Image.Image) -> torch.Tensor:
        pixels = processor(images=image, return_tensors="pt")["pixel_values"]
        return torch.as_tensor(pixels)[0]

    return Animal({"backbone": f"hf:{folder / 'hf'}"}, _answer(model, transform))


# The exported models are told by flags how images become their input.
_FLAGS = {
    "image_size": SIZE,
    "crop_pct": 1.0,
    "mean": ",".join(map(str, MEAN)),
    "std": ",".join(map(str, STD)),
}


def torchscript_model(folder: Path) -> Animal:
    model = SmallNet().eval()
    path = folder / "model.ts"
    trace: Any = torch.jit.trace
    torch.jit.save(trace(model, torch.zeros(2, 3, SIZE, SIZE)), path)
    return Animal({"backbone": f"torchscript:{path}", **_FLAGS}, _answer(model, Small()))


def export_model(folder: Path) -> Animal:
    model = SmallNet().eval()
    batch = torch.export.Dim("batch", min=1, max=1024)
    program = torch.export.export(
        model, (torch.zeros(2, 3, SIZE, SIZE),), dynamic_shapes=({0: batch},)
    )
    path = folder / "model.pt2"
    torch.export.save(program, path)
    return Animal({"backbone": f"export:{path}", **_FLAGS}, _answer(model, Small()))


def fixed_export_model(folder: Path) -> Animal:
    """Exported for batches of exactly two images."""
    model = SmallNet().eval()
    path = folder / "fixed.pt2"
    torch.export.save(torch.export.export(model, (torch.zeros(2, 3, SIZE, SIZE),)), path)
    return Animal({"backbone": f"export:{path}", **_FLAGS}, _answer(model, Small()))


def onnx_model(folder: Path) -> Animal:
    model = SmallNet().eval()
    path = folder / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (torch.zeros(2, 3, SIZE, SIZE),),
            path,
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=1024)},),
            external_data=False,
            verbose=False,
        )
    return Animal({"backbone": f"onnx:{path}", **_FLAGS}, _answer(model, Small()))


MAKERS = {
    "timm": timm_model,
    "torchvision": torchvision_model,
    "python": python_model,
    "transformers": transformers_model,
    "torchscript": torchscript_model,
    "export": export_model,
    "fixed export": fixed_export_model,
    "onnx": onnx_model,
}
