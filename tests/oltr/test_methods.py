"""The registry of methods: every one builds, learns and starts from the stage before."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from alphafix.errors import InputError
from alphafix.oltr.losses.objectives import cross_entropy, focal, lifted, ranges
from alphafix.oltr.models.heads import LinearHead, OLTRHead, Output
from alphafix.oltr.models.network import LongTailModel
from alphafix.oltr.models.spec import Ablations, ModelSpec
from alphafix.oltr.training.methods import METHODS, MethodSpec, method
from alphafix.rivals import LINEAR_METHODS

SETTING = ModelSpec("small", np.array([40, 20, 10, 5, 3, 2]), input_channels=1, size=16)


def build(spec: MethodSpec, setting: ModelSpec = SETTING) -> list[LongTailModel]:
    torch.manual_seed(0)
    models: list[LongTailModel] = []
    for stage in spec.stages:
        models.append(stage.build_model(setting, models[-1] if models else None))
    return models


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.randn(12, 1, 16, 16, generator=torch.Generator().manual_seed(2))
    return images, torch.arange(12) % SETTING.num_classes


def test_methods__load_no_torch() -> None:
    code = "import sys, alphafix.oltr.training.methods; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stdout.strip() == "False"


def test_methods__are_those_of_both_papers() -> None:
    table_3 = {"plain", "lifted", "focal", "range", "fslwf", "oltr"}
    base_heads = {"cross-entropy", "crt", "lws", "tau-norm", "ncm", "ride", "weight-balancing"}
    assert table_3 | base_heads <= set(METHODS)


def test_method__unknown_name_lists_the_known() -> None:
    with pytest.raises(InputError, match=r"no method olrt(.|\n)*oltr"):
        method("olrt")


def test_methods__heads_are_linear_ones() -> None:
    assert {spec.head_only for spec in METHODS.values()} - {None} <= set(LINEAR_METHODS)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_method__each_stage_learns_from_the_one_before(name: str) -> None:
    spec = METHODS[name]
    images, labels = batch()
    for stage, model in zip(spec.stages, build(spec), strict=True):
        objective = stage.build_objective(model, SETTING)
        output = model(images)
        assert output.logits.shape == (12, 6)
        weight, bias = model.head.linear()
        again = torch.nn.functional.linear(output.features, weight, bias)
        assert torch.allclose(again, output.logits, atol=1e-4)
        loss = objective(output, labels)
        assert torch.isfinite(loss)
        learned = [p for p in model.parameters() if p.requires_grad]
        grads = torch.autograd.grad(loss, learned, allow_unused=True)
        assert any(g is not None and g.abs().sum() > 0 for g in grads)


@pytest.mark.parametrize("name", ["class-aware", "lifted", "focal", "range"])
def test_competitor__continues_the_first_stage_with_class_aware_batches(name: str) -> None:
    spec = METHODS[name]
    assert len(spec.stages) == 2
    assert spec.stages[1].sampler == "class_aware"
    first, second = build(spec)
    for key, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[key], value), key
    assert first.head is not second.head


def test_oltr__starts_from_the_first_stage() -> None:
    first, second = build(METHODS["oltr"])
    head = second.head
    assert isinstance(head, OLTRHead)
    assert second.network.attention is not None
    key = "network.backbone.body.0.weight"
    assert torch.equal(first.state_dict()[key], second.state_dict()[key])
    # Attention starts as nothing, so that features are those of the first stage.
    images, _ = batch()
    first.eval(), second.eval()
    assert torch.allclose(first.network(images), second.network(images), atol=1e-5)
    head.initialise(*first.head.linear(), torch.zeros_like(head.centroids))
    assert head.memory.hallucinator is not None
    assert torch.equal(head.memory.hallucinator.weight, first.head.linear()[0])


def test_oltr__first_stage_has_the_width_of_the_second() -> None:
    setting = ModelSpec("small", SETTING.counts, 1, 16, width=32)
    first, second = build(METHODS["oltr"], setting)
    assert first.network.width == second.network.width == 32
    assert torch.equal(
        first.state_dict()["network.fc_add.weight"], second.state_dict()["network.fc_add.weight"]
    )
    # As wide as the backbone is already: no layer in the first stage (the official code).
    first, second = build(METHODS["oltr"], ModelSpec("small", SETTING.counts, 1, 16, width=96))
    assert first.network.fc_add is None
    assert second.network.fc_add is not None


def test_oltr__ablations_reach_the_model() -> None:
    parts = Ablations(memory=False, attention=False)
    (_, model) = build(METHODS["oltr"], ModelSpec("small", SETTING.counts, 1, 16, ablations=parts))
    assert model.network.attention is None
    assert isinstance(model.head, OLTRHead)
    assert model.head.memory.hallucinator is None


def test_stage__first_stage_of_other_classes_is_refused() -> None:
    other = ModelSpec("small", np.array([9, 3]), 1, 16)
    (first,) = build(METHODS["plain"], other)
    with pytest.raises(InputError, match=r"first stage's model is of another kind(.|\n)*again"):
        METHODS["focal"].stages[1].build_model(SETTING, first)


def test_weight_balancing__first_stage_decays_strongly() -> None:
    spec = METHODS["weight-balancing"]
    assert spec.stages[0].weight_decay == 5e-3
    assert spec.head_only == "weight-balancing"


def test_objectives__add_their_loss_to_cross_entropy() -> None:
    (model,) = build(METHODS["plain"])
    assert isinstance(model.head, LinearHead)
    images, labels = batch()
    output: Output = model(images)
    plain = cross_entropy(output, labels)
    assert torch.allclose(lifted(output, labels, 0.0), plain)
    assert torch.allclose(ranges(output, labels, alpha=0.0, beta=0.0), plain)
    assert torch.allclose(focal(output, labels, 0.0), plain)
    assert lifted(output, labels, 0.5) > plain
    assert ranges(output, labels, alpha=0.5, beta=0.5) > plain
    assert focal(output, labels, 2.0) < plain


@pytest.mark.parametrize("name", ["lifted", "focal", "range", "oltr", "ride", "ride-routing"])
def test_objective__batch_of_one_class_is_finite(name: str) -> None:
    spec = METHODS[name]
    stage, model = spec.stages[-1], build(spec)[-1]
    images, _ = batch()
    loss = stage.build_objective(model, SETTING)(model(images), torch.full((12,), 5))
    assert torch.isfinite(loss)
