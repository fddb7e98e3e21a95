"""Tiny real classifiers of the libraries that users have, and research heads."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from alphafix.run.directory import CORRECTION, HEAD, Run
from alphafix.values.arrays import FloatArray
from alphafix.values.correction import Correction
from alphafix.values.head import Head

CLASSES = 12
FEW = np.array([3, 7, 11])

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

# How far logits may be off, relative to the largest: the element type's rounding, over sums
# of some dozen terms.
TOLERANCE = {"float32": 1e-5, "float16": 5e-3, "bfloat16": 4e-2}


def timm_resnet() -> nn.Module:
    import timm

    model: nn.Module = timm.create_model("resnet10t", channels=(8, 8, 16, 16), num_classes=CLASSES)
    return model


def timm_vit() -> nn.Module:
    import timm

    model: nn.Module = timm.create_model(
        "vit_tiny_patch16_224",
        img_size=32,
        depth=1,
        embed_dim=32,
        num_heads=2,
        num_classes=CLASSES,
    )
    return model


def torchvision_model() -> nn.Module:
    import torchvision

    model: nn.Module = torchvision.models.shufflenet_v2_x0_5(num_classes=CLASSES)
    return model


def transformers_vit() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=32,
        patch_size=16,
    )
    config.num_labels = CLASSES
    model: nn.Module = ViTForImageClassification(config)
    return model


class Trunk(nn.Module):
    """Images to 16 features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 8, 8)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.conv(images)).mean((2, 3))


class LwsModel(nn.Module):
    """Learnable weight scaling, as in classifier-balancing: logits = (W x + b) * scales."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Trunk()
        self.fc = nn.Linear(16, CLASSES)
        self.scales = nn.Parameter(0.5 + torch.rand(CLASSES))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.trunk(images)
        return found

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.fc(self.features(images)) * self.scales
        return found


class Experts(nn.Module):
    """Three linear heads on features of their own, averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.trunks = nn.ModuleList([Trunk() for _ in range(3)])
        self.linears = nn.ModuleList([nn.Linear(16, CLASSES) for _ in range(3)])

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat([trunk(images) for trunk in self.trunks], dim=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        blocks = self.features(images).chunk(3, dim=1)
        logits = [head(block) for head, block in zip(self.linears, blocks, strict=True)]
        return torch.stack(logits, dim=1).mean(dim=1)


class NormedLinear(nn.Module):
    """RIDE's: D x C weights whose columns are normalised when the model runs."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(width, CLASSES) * 2 - 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features @ nn.functional.normalize(self.weight, dim=0)


class Ride(nn.Module):
    """RIDE with three experts: normalised features and rows, logits times 30, averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.trunks = nn.ModuleList([Trunk() for _ in range(3)])
        self.linears = nn.ModuleList([NormedLinear(16) for _ in range(3)])

    def features(self, images: torch.Tensor) -> torch.Tensor:
        blocks = [nn.functional.normalize(trunk(images), dim=1) for trunk in self.trunks]
        return torch.cat(blocks, dim=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        blocks = self.features(images).chunk(3, dim=1)
        logits = [30 * head(block) for head, block in zip(self.linears, blocks, strict=True)]
        return torch.stack(logits, dim=1).mean(dim=1)


BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "timm-resnet": timm_resnet,
    "timm-vit": timm_vit,
    "torchvision": torchvision_model,
    "transformers": transformers_vit,
    "lws": LwsModel,
    "experts": Experts,
    "ride": Ride,
}


def build(name: str, dtype: str = "float32", *, seed: int = 0) -> nn.Module:
    """A model in evaluation mode, with a head whose biases are not all zero."""
    torch.manual_seed(seed)
    model = BUILDERS[name]().eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.shape == (CLASSES,) and "bias" in key:
                parameter.copy_(torch.randn(CLASSES) / 2)
    return model.to(DTYPES[dtype])


def images(dtype: str = "float32") -> torch.Tensor:
    """Eight random images."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(8, 3, 32, 32, generator=generator).to(DTYPES[dtype])


def logits_of(model: nn.Module, inputs: torch.Tensor) -> FloatArray:
    """N x C logits, float32."""
    with torch.no_grad():
        out = model(inputs)
    values: FloatArray = getattr(out, "logits", out).float().numpy()
    return values


def features_of(model: nn.Module, inputs: torch.Tensor) -> FloatArray:
    """What goes into the head, N x D, float32: by the model's own method, or by a hook."""
    with torch.no_grad():
        if hasattr(model, "trunk") or hasattr(model, "trunks"):
            own: FloatArray = model.features(inputs).float().numpy()  # type: ignore[operator]
            return own
        seen: list[torch.Tensor] = []
        head = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
        hook = head.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
        model(inputs)
        hook.remove()
    values: FloatArray = seen[-1].float().numpy()
    return values


def make_correction(head: Head, *, keep_norms: bool = False, experts: int = 1) -> Correction:
    """New rows for three classes; with the norms of the old ones where only those can be held."""
    rng = np.random.default_rng(2)
    spread = 3 * np.sqrt((head.weight**2).mean())
    rows = head.weight[FEW] + spread * rng.normal(size=(3, head.width)).astype(np.float32)
    if keep_norms:
        blocks = np.split(rows, experts, axis=1)
        old = np.split(head.weight[FEW], experts, axis=1)
        scaled = [
            new
            * np.linalg.norm(was, axis=1, keepdims=True)
            / np.linalg.norm(new, axis=1, keepdims=True)
            for new, was in zip(blocks, old, strict=True)
        ]
        rows = np.concatenate(scaled, axis=1)
    biases = None
    if head.bias is not None:
        biases = head.bias[FEW] + rng.normal(size=3).astype(np.float32)
    return Correction(FEW, rows.astype(np.float32), biases)


def write_stages(folder: Path, head: Head, correction: Correction) -> Run:
    """Write what the stages before `alphafix patch` leave, as far as it reads that."""
    run = Run(folder)
    head.save(run.path(HEAD), overwrite=True)
    correction.save(run.path(CORRECTION), overwrite=True)
    return run


def export_onnx(model: nn.Module, inputs: torch.Tensor, path: Path, **options: Any) -> None:
    """Export with torch's own exporter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (inputs,), path, **options)


def run_onnx(path: Path, inputs: torch.Tensor) -> FloatArray:
    """Logits of an ONNX file, by onnxruntime, or by ONNX's own evaluator for bfloat16."""
    if inputs.dtype == torch.bfloat16:  # which onnxruntime does not compute on a CPU
        import ml_dtypes
        from onnx.reference import ReferenceEvaluator

        evaluator: Any = ReferenceEvaluator(str(path))
        given = inputs.float().numpy().astype(ml_dtypes.bfloat16)
        return np.asarray(evaluator.run(None, {evaluator.input_names[0]: given})[0], np.float32)
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    out = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})
    return np.asarray(out[0], dtype=np.float32)
