"""`alphafix import oltr`: the converted model computes what the official code would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from timm.models.resnet import BasicBlock, ResNet
from torch.nn import functional
from typer.testing import CliRunner

from alphafix.commands.app import app
from alphafix.models.loading import load_classifier
from alphafix.models.preprocess import Overrides
from tests.imports.projects import save_networks

runner = CliRunner()

CLASSES, WIDTH = 6, 16

State = dict[str, torch.Tensor]


def resnet10() -> Any:
    """Trunk with the parameter names that OLTR's ResNet-10 has."""
    torch.manual_seed(0)
    return ResNet(BasicBlock, (1, 1, 1, 1), num_classes=0, global_pool="").eval()


def layer(name: str, inputs: int, outputs: int) -> State:
    made = torch.nn.Linear(inputs, outputs)
    return {f"{name}.{kind}": value.detach() for kind, value in made.named_parameters()}


def linear(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    return functional.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))


def attend(state: State, x: torch.Tensor) -> torch.Tensor:
    """Modulated attention on B x C' x 7 x 7, by convolutions, as published."""
    b, c = x.shape[:2]

    def flat(name: str) -> torch.Tensor:
        weight, bias = state[f"modulatedatt.{name}.weight"], state[f"modulatedatt.{name}.bias"]
        return functional.conv2d(x, weight, bias).reshape(b, c // 2, 49)

    weights = (flat("theta").transpose(1, 2) @ flat("phi")).softmax(-1)
    context = (weights @ flat("g").transpose(1, 2)).transpose(1, 2).reshape(b, c // 2, 7, 7)
    mask = functional.conv2d(context, state["modulatedatt.conv_mask.weight"])
    spatial = linear(state, "modulatedatt.fc_spatial", x.reshape(b, -1)).softmax(1)
    return spatial.reshape(b, 1, 7, 7) * mask + x


def body_state(attention: bool) -> tuple[Any, State]:
    trunk = resnet10()
    state = dict(trunk.state_dict()) | layer("fc_add", 512, WIDTH)
    if attention:
        for name in ("g", "theta", "phi"):
            made = torch.nn.Conv2d(512, 256, 1)
            state |= {f"modulatedatt.{name}.{k}": v.detach() for k, v in made.named_parameters()}
        state["modulatedatt.conv_mask.weight"] = 0.1 * torch.randn(512, 256, 1, 1)
        state |= layer("modulatedatt.fc_spatial", 512 * 49, 49)
    return trunk, state


def direct(trunk: Any, state: State, images: torch.Tensor, attention: bool) -> torch.Tensor:
    features = trunk.forward_features(images)
    if attention:
        features = attend(state, features)
    pooled = functional.avg_pool2d(features, 7).flatten(1)
    return linear(state, "fc_add", pooled).relu()


def loaded(folder: Path) -> torch.nn.Module:
    return load_classifier(f"oltr:{folder}", None, Overrides()).module


@pytest.fixture
def images() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(3, 3, 224, 224)


def test_oltr__second_stage_gives_the_official_logits(tmp_path: Path, images: torch.Tensor) -> None:
    trunk, body = body_state(attention=True)
    classifier = layer("fc_hallucinator", WIDTH, CLASSES) | layer("fc_selector", WIDTH, WIDTH)
    classifier["cosnorm_classifier.weight"] = torch.randn(CLASSES, WIDTH)
    centroids = torch.randn(CLASSES, WIDTH)
    path = save_networks(tmp_path / "a.pth", body, classifier, centroids=centroids)
    result = runner.invoke(app, ["import", "oltr", str(path), "-o", str(tmp_path / "model")])
    assert result.exit_code == 0, result.stderr
    with torch.inference_mode():
        x = direct(trunk, body, images, attention=True)
        memory = linear(classifier, "fc_hallucinator", x).softmax(1) @ centroids
        selector = linear(classifier, "fc_selector", x).tanh()
        reach = 10 / torch.cdist(x, centroids).min(1).values[:, None]
        meta = reach * (x + selector * memory)
        norm = meta.norm(dim=1, keepdim=True)
        rows = functional.normalize(classifier["cosnorm_classifier.weight"], dim=1)
        expected = 16 * (norm / (1 + norm) * meta / norm) @ rows.T
        found = loaded(tmp_path / "model")(images)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_oltr__first_stage_gives_the_official_logits(tmp_path: Path, images: torch.Tensor) -> None:
    trunk, body = body_state(attention=False)
    classifier = layer("fc", WIDTH, CLASSES)
    folder = tmp_path / "logs"
    save_networks(folder / "final_model_checkpoint.pth", body, classifier)
    names = tmp_path / "names.txt"
    names.write_text("".join(f"name {number}\n" for number in range(CLASSES)))
    words = ["import", "oltr", str(folder), "--class-names", str(names)]
    result = runner.invoke(app, words)
    target = folder / "final_model_checkpoint-oltr"
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{target / 'model.safetensors'}\n"
    with torch.inference_mode():
        expected = linear(classifier, "fc", direct(trunk, body, images, attention=False))
        found = loaded(target)(images)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    assert "up to date" in runner.invoke(app, words).stderr


@pytest.mark.parametrize("harm", ["centroids", "depth", "missing"])
def test_oltr__of_another_architecture_is_refused_and_leaves_nothing(
    tmp_path: Path, harm: str
) -> None:
    _, body = body_state(attention=False)
    classifier = layer("fc_hallucinator", WIDTH, CLASSES) | layer("fc_selector", WIDTH, WIDTH)
    classifier["cosnorm_classifier.weight"] = torch.randn(CLASSES, WIDTH)
    centroids = None if harm == "centroids" else torch.randn(CLASSES, WIDTH)
    if harm == "depth":
        body["layer3.1.conv1.weight"] = body["layer3.0.conv2.weight"]
    if harm == "missing":
        del classifier["fc_selector.bias"]
    path = save_networks(tmp_path / "a.pth", body, classifier, centroids=centroids)
    result = runner.invoke(app, ["import", "oltr", str(path), "-o", str(tmp_path / "model")])
    assert result.exit_code == 1
    words = {"centroids": "no checkpoint of OLTR", "depth": "ResNet-10", "missing": "missing"}
    assert words[harm] in result.stderr
    assert not (tmp_path / "model").exists()
