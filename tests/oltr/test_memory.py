"""The visual memory: large problems, the edge γ = 0, gradients, and its start."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from alphafix.errors import InputError
from alphafix.oltr.losses.objectives import OLTRObjective
from alphafix.oltr.models.heads import OLTRHead
from alphafix.oltr.models.memory import LEAST_DISTANCE, Memory, nearest_distance
from alphafix.oltr.models.spec import OFFICIAL, PAPER, PRESETS, Ablations, Preset


class LargestResult(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps the number of elements of the largest tensor that any operation gave."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(value, Tensor):
                self.elements = max(self.elements, value.numel())
        return result


def test_nearest_distance__is_the_least_of_all_distances() -> None:
    torch.manual_seed(0)
    features, centroids = torch.randn(20, 8), torch.randn(50, 8)
    expected = (features[:, None] - centroids[None]).norm(dim=2).amin(1)
    torch.testing.assert_close(nearest_distance(features, centroids), expected)


def test_nearest_distance__is_exact_far_from_the_origin() -> None:
    # ‖v‖² − 2 v·c + ‖c‖² in float32 has an error of about 1 here.
    centroids = torch.full((2, 4), 1000.0)
    centroids[1] += 1
    features = centroids[:1] + torch.tensor([[0.125, 0.0, 0.0, 0.0]])
    assert nearest_distance(features, centroids).item() == pytest.approx(0.125)


def test_nearest_distance__is_exact_under_mixed_precision() -> None:
    centroids = torch.tensor([[100.0, 1.0], [100.25, 1.0]])
    features = torch.tensor([[100.375, 1.0]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        distance = nearest_distance(features, centroids)
    assert distance.dtype == torch.float32
    assert distance.item() == 0.125


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_training_step__makes_no_array_of_batch_times_classes_times_width(preset: Preset) -> None:
    batch, classes, width = 16, 300, 64
    head = OLTRHead(width, classes, preset)
    direct = torch.randn(batch, width, requires_grad=True)
    labels = torch.arange(batch)
    with LargestResult() as largest:
        OLTRObjective(head)(head(direct), labels).backward()
    assert largest.elements == classes * width


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_feature_on_a_centroid__gives_finite_values_and_gradients(preset: Preset) -> None:
    torch.manual_seed(0)
    head = OLTRHead(4, 3, preset)
    direct = torch.stack([head.centroids[0].detach(), torch.randn(4), torch.zeros(4)])
    with torch.no_grad():
        head.centroids[2].zero_()  # and so is the third feature
    direct.requires_grad_()
    output = head(direct)
    assert nearest_distance(direct, head.centroids)[[0, 2]].tolist() == [0, 0]
    OLTRObjective(head)(output, torch.tensor([0, 1, 2])).backward()
    assert direct.grad is not None
    for name, tensor in {**dict(head.named_parameters()), "direct": direct}.items():
        assert tensor.grad is not None, name
        assert torch.isfinite(tensor.grad).all(), name
    assert output.meta is not None
    assert torch.isfinite(output.meta).all()
    assert torch.isfinite(output.logits).all()
    assert output.features.norm(dim=1).max() <= 1 + 1e-6


def test_feature_on_a_centroid__is_divided_by_the_least_distance() -> None:
    memory = Memory(2, 1, PAPER, Ablations(memory=False))
    centroids = torch.tensor([[3.0, 4.0]])
    meta, _ = memory(centroids, centroids)
    torch.testing.assert_close(meta, centroids / LEAST_DISTANCE)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_head__gradients_by_finite_differences(preset: Preset) -> None:
    torch.manual_seed(0)
    head = OLTRHead(3, 4, preset).double()
    direct = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    others = [p for name, p in head.named_parameters() if name != "centroids"]

    def logits(direct: Tensor, *_: Tensor) -> Tensor:
        found: Tensor = head(direct).logits
        return found

    assert torch.autograd.gradcheck(logits, (direct, *others))


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_cross_entropy__sends_no_gradient_into_the_centroids(preset: Preset) -> None:
    head = OLTRHead(3, 4, preset)
    output = head(torch.randn(2, 3))
    loss = torch.nn.functional.cross_entropy(output.logits, torch.tensor([0, 1]))
    torch.autograd.backward(loss)
    assert head.centroids.grad is None
    assert head.classifier.weight.grad is not None


@pytest.mark.parametrize("bias", [None, torch.tensor([1.0, 2.0, 3.0])])
def test_initialise__sets_hallucinator_and_centroids(bias: Tensor | None) -> None:
    head = OLTRHead(2, 3)
    weight, means = torch.randn(3, 2), torch.randn(3, 2)
    head.initialise(weight, bias, means)
    direct = torch.randn(4, 2)
    logits = torch.nn.functional.linear(direct, weight, bias)
    torch.testing.assert_close(head(direct).memory, logits.softmax(1))
    assert torch.equal(head.centroids, means)
    assert head.centroids.requires_grad


def test_initialise__leaves_the_hallucinator_of_the_paper_alone() -> None:
    head = OLTRHead(2, 3, PAPER)
    assert head.memory.hallucinator is not None
    before = head.memory.hallucinator.weight.clone()
    head.initialise(torch.randn(3, 2), None, torch.ones(3, 2))
    assert torch.equal(head.memory.hallucinator.weight, before)
    assert torch.equal(head.centroids, torch.ones(3, 2))


def test_initialise__without_memory_sets_the_centroids() -> None:
    head = OLTRHead(2, 3, OFFICIAL, Ablations(memory=False))
    head.initialise(torch.randn(3, 2), None, torch.ones(3, 2))
    assert torch.equal(head.centroids, torch.ones(3, 2))


def test_initialise__names_what_does_not_fit() -> None:
    head = OLTRHead(2, 3)
    with pytest.raises(InputError, match="classifier of the first stage does not fit the memory"):
        head.initialise(torch.zeros(3, 5), None, torch.zeros(3, 2))
    with pytest.raises(InputError, match="class means does not fit the memory"):
        head.initialise(torch.zeros(3, 2), None, torch.zeros(2, 2))
    with pytest.raises(InputError, match="1 of 3 with nan or inf"):
        head.start_centroids(torch.tensor([[0.0, 0.0], [float("nan"), 0.0], [1.0, 1.0]]))
