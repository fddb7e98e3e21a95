"""RIDE: experts on one trunk, their head as one linear layer, and the router."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from torch import Tensor, nn
from torch.nn import functional

from alphafix.errors import InputError
from alphafix.oltr.losses.objectives import Ride, Routing
from alphafix.oltr.models.backbones import build_backbone
from alphafix.oltr.models.export import export
from alphafix.oltr.models.heads import Output
from alphafix.oltr.models.network import LongTailModel
from alphafix.oltr.models.ride import RideHead, RideNetwork, build_ride, split_body
from alphafix.oltr.models.routing import RoutedRide, Router, needed_later
from alphafix.oltr.models.spec import ModelSpec
from alphafix.oltr.training.methods import METHODS

CLASSES, EXPERTS = 6, 3
SETTING = ModelSpec("small", np.array([40, 20, 10, 5, 3, 2]), 1, 16, experts=EXPERTS)


def ride() -> LongTailModel:
    torch.manual_seed(0)
    return METHODS["ride"].stages[0].build_model(SETTING)


def some_images(count: int = 8) -> Tensor:
    return torch.randn(count, 1, 16, 16, generator=torch.Generator().manual_seed(1))


def step(loss: Tensor, optimiser: torch.optim.Optimizer) -> None:
    optimiser.zero_grad()
    torch.autograd.backward(loss)
    optimiser.step()


def hidden_layers(router: Router) -> list[nn.Linear]:
    return [layer for layer in router.hidden if isinstance(layer, nn.Linear)]


def test_head__is_one_linear_layer_of_normalised_parts() -> None:
    torch.manual_seed(0)
    head = RideHead(4, CLASSES, EXPERTS)
    direct = 5 * torch.randn(7, EXPERTS * 4)
    output = head(direct)
    # By hand: rows normalised, times 30, divided by E; features normalised by expert.
    weight, bias = head.linear()
    assert bias is None
    assert weight.shape == (CLASSES, EXPERTS * 4)
    norms = weight.reshape(CLASSES, EXPERTS, 4).norm(dim=2)
    assert torch.allclose(norms, torch.full_like(norms, 30 / EXPERTS))
    assert torch.allclose(output.features.reshape(7, EXPERTS, 4).norm(dim=2), torch.ones(7, 3))
    by_hand = torch.stack(
        [
            30
            * functional.normalize(direct[:, 4 * e : 4 * e + 4])
            @ functional.normalize(head.classifiers[e].weight).T
            for e in range(EXPERTS)
        ]
    )
    assert output.expert_logits is not None
    assert torch.allclose(output.expert_logits, by_hand, atol=1e-5)
    assert torch.allclose(output.logits, by_hand.mean(dim=0), atol=1e-5)
    assert torch.allclose(output.features @ weight.T, output.logits, atol=1e-5)


def test_head__one_expert_is_a_cosine_head() -> None:
    head = RideHead(4, CLASSES, 1)
    output = head(torch.randn(3, 4))
    assert output.expert_logits is not None
    assert torch.equal(output.expert_logits[0], output.logits)


def test_head__a_feature_of_zeros_is_finite() -> None:
    output = RideHead(4, CLASSES, 2)(torch.zeros(2, 8))
    assert torch.equal(output.logits, torch.zeros(2, CLASSES))


def test_network__experts_share_the_trunk_and_nothing_else() -> None:
    model = ride()
    network = model.network
    assert isinstance(network, RideNetwork)
    images = some_images()
    direct = network(images)
    assert direct.shape == (8, network.width) == (8, EXPERTS * 96)
    assert network.backbone(images).shape[1] == network.backbone.channels == 24
    first = direct[:, :96].sum()
    branches = [list(branch.parameters()) for branch in network.branches]
    grads = torch.autograd.grad(
        first,
        [*network.backbone.parameters(), *branches[0], *branches[1]],
    )
    shared = len(list(network.backbone.parameters()))
    moved = [bool(grad.abs().sum() > 0) for grad in grads]
    assert all(moved[: shared + len(branches[0])])
    assert not any(moved[shared + len(branches[0]) :])
    ids = [id(p) for p in model.parameters()]
    assert len(set(ids)) == len(ids)  # no weight is there twice


@pytest.mark.parametrize("name", ["small", "resnet10", "timm:resnet14t"])
def test_split__the_two_parts_make_the_backbone(name: str) -> None:
    torch.manual_seed(0)
    backbone = build_backbone(name, input_channels=1).eval()
    early, late = split_body(backbone.body)
    images = torch.randn(2, 1, 32, 32)
    assert torch.equal(late(early(images)), backbone(images))
    whole = sum(p.numel() for p in backbone.parameters())
    assert sum(p.numel() for part in (early, late) for p in part.parameters()) == whole


def test_split__another_backbone_is_refused() -> None:
    backbone = build_backbone("timm:test_vit")
    with pytest.raises(InputError, match=r"cannot split(.|\n)*ResNet of timm"):
        split_body(backbone.body)


def test_build__no_experts_are_refused() -> None:
    with pytest.raises(InputError, match="needs experts"):
        build_ride("small", 1, 0)


def test_training__lowers_the_loss_and_keeps_the_experts_apart() -> None:
    model = ride()
    objective = Ride(torch.from_numpy(SETTING.counts))
    images, labels = some_images(24), torch.arange(24) % CLASSES
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(15):
        output = model(images)
        loss = objective(output, labels)
        step(loss, optimiser)
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert isinstance(model.head, RideHead)
    first, second, _ = (one.weight for one in model.head.classifiers)
    assert not torch.allclose(first, second, atol=0.01)


def test_objective__needs_experts() -> None:
    plain = Output(torch.zeros(1, 2), torch.zeros(1, 3), torch.zeros(1, 3))
    with pytest.raises(InputError, match="has none"):
        Ride(torch.tensor([3, 1]))(plain, torch.tensor([0]))


def routed() -> RoutedRide:
    model = METHODS["ride-routing"].stages[1].build_model(SETTING, ride())
    assert isinstance(model, RoutedRide)
    return model


def test_needed__by_hand() -> None:
    right, wrong = [5.0, 0.0], [0.0, 4.0]
    # Samples: right at once; wrong, then right; never right; wrong, wrong, right.
    logits = torch.tensor(
        [
            [right, wrong, wrong, wrong],
            [wrong, right, wrong, wrong],
            [wrong, right, wrong, right],
        ]
    )
    labels = torch.zeros(4).long()
    # After two: (5, 4)/2 is right for the first two samples. The last one's third expert is right
    # by itself, but not the mean (5, 8)/3.
    assert needed_later(logits, labels).tolist() == [[0, 1, 0, 0], [0, 0, 0, 0]]
    assert needed_later(logits, labels, alone=True).tolist() == [[0, 1, 0, 1], [0, 0, 0, 1]]


@pytest.mark.parametrize(("preset", "alone"), [("official", False), ("paper", True)])
def test_routing__targets_are_the_codes_or_the_papers(preset: str, alone: bool) -> None:
    objective = (
        METHODS["ride-routing"].stages[1].build_objective(routed(), replace(SETTING, preset=preset))
    )
    assert isinstance(objective, Routing)
    assert objective.alone is alone


def test_ride__reweights_in_the_last_fifth_of_the_training() -> None:
    counts = torch.tensor([100, 10])
    objective = Ride(counts, weight=0.45)
    logits = torch.tensor([[[30.0, 0.0], [0.0, 3.0]], [[3.0, 6.0], [6.0, 0.0]]])
    output = Output(logits.mean(dim=0), torch.zeros(2, 2), torch.zeros(2, 2), expert_logits=logits)
    labels = torch.tensor([0, 1])
    objective.begin_epoch(159 / 200)
    before = float(objective(output, labels))
    objective.begin_epoch(160 / 200)
    after = float(objective(output, labels))

    # Wang et al.'s RIDELoss in NumPy: margins n^-1/4, the largest 0.5; weights by 0.9999.
    x, n = logits.double().numpy(), counts.double().numpy()
    margins = n**-0.25 * 0.5 / (n**-0.25).max()
    balanced = (1 - 0.9999) / (1 - 0.9999**n)
    balanced = balanced / balanced.sum() * 2
    beta = 2 * n / n.sum() * 0.05 + 0.95
    for found, weights, t in (
        (before, np.ones(2), np.ones(2)),
        (after, balanced, beta / beta.max()),
    ):
        expected = 0.0
        for expert in x:
            lowered = expert - 30 * np.diag(margins)
            own = -log_softmax(lowered, axis=1)[[0, 1], [0, 1]]
            expected += (own * weights).sum() / weights.sum()
            mean = softmax(x.mean(axis=0) / t, axis=1)
            divergence = (mean * (np.log(mean) - log_softmax(expert / t, axis=1))).sum() / 2
            expected -= 0.45 * t.mean() ** 2 * divergence
        assert found == pytest.approx(expected, rel=1e-5)


def test_router__is_that_of_the_code() -> None:
    """Against numbers of pred_expert_help and forward of RIDE's ea_resnet_cifar.py.

    github.com/frank-xwang/RIDE-LongTailRecognition: ReLU(W_k f + b_k) of the normalised feature
    beside the largest mean logits in one linear layer for all experts; binary cross-entropy,
    positive samples by 100 (config_*_ride_ea.json), its mean over the experts but the last. The
    numbers were worked out in float64 from these equations.
    """
    router = Router(2, 3, 3)
    unit = torch.arange(16.0)
    with torch.no_grad():
        for k, layer in enumerate(hidden_layers(router)):
            layer.weight.copy_(torch.stack([(unit - 8) / 10 * (k + 1), 0.5 - unit / 20], dim=1))
            layer.bias.copy_(unit / 40)
        alternating = torch.where(unit % 2 == 0, 1.0, -1.0) / (unit + 1)
        router.score.weight.copy_(torch.cat([torch.tensor([0.3, -0.2, 0.1]), alternating])[None])
        router.score.bias.fill_(0.05)
    features = torch.tensor([[[0.6, 0.8], [1.0, 0.0]], [[0.0, -1.0], [-0.8, 0.6]]])
    logits = torch.tensor(
        [[[1.0, 2.0, 0.5], [3.0, 1.0, 0.0]], [[2.0, 0.0, 0.5], [0.0, 1.0, 4.0]], 2 * [[0.0] * 3]]
    )
    scores = torch.stack(
        [router(0, features[0], logits[0]), router(1, features[1], logits[:2].mean(dim=0))]
    )
    torch.testing.assert_close(
        scores, torch.tensor([[0.4796410, 0.7144031], [0.3305749, 1.5766329]]), atol=1e-6, rtol=0
    )

    objective = Routing(router)
    # The last expert's features are not looked at.
    side_by_side = torch.cat([*features, torch.zeros(2, 2)], dim=1)
    output = Output(logits.mean(dim=0), side_by_side, side_by_side, expert_logits=logits)
    loss = objective(output, torch.tensor([0, 2]))
    assert loss.item() == pytest.approx(22.6651827, abs=1e-4)


def test_router__learns_alone() -> None:
    model = routed().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    objective = Routing(model.router, positive_weight=2.0)
    images, labels = some_images(32), torch.arange(32) % CLASSES
    learned = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(learned, lr=0.1)
    losses = []
    for _ in range(20):
        loss = objective(model(images), labels)
        step(loss, optimiser)
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed
    assert all(name.startswith("router.") for name in changed)


@pytest.mark.parametrize(("bias", "used"), [(-1e3, 1), (1e3, EXPERTS)])
def test_router__stops_at_once_or_asks_all(bias: float, used: int) -> None:
    model = routed()
    nn.init.constant_(model.router.score.bias, bias)
    images = some_images()
    everyone, found = model.train()(images), model.eval()(images)
    assert everyone.expert_logits is not None
    assert found.experts.tolist() == [used] * len(images)
    assert torch.allclose(found.logits, everyone.expert_logits[:used].mean(dim=0), atol=1e-5)


def half_routed() -> tuple[RoutedRide, Tensor]:
    """A router that asks a second expert for half of these images, and never a third."""
    model, images = routed(), some_images(16)
    output = model.train()(images)
    router = model.router
    for layer, bias in zip(hidden_layers(router), (0.0, 1e3), strict=True):
        nn.init.zeros_(layer.weight)
        nn.init.constant_(layer.bias, bias)
    nn.init.constant_(router.score.weight[:, router.top :], -1.0)
    with torch.no_grad():
        router.score.bias.sub_(router(0, output.features[:, :96], output.expert_logits[0]).median())
    return model, images


def test_router__asks_more_experts_for_some_images_only() -> None:
    model, images = half_routed()
    everyone, found = model.train()(images), model.eval()(images)
    assert everyone.expert_logits is not None
    assert sorted(set(found.experts.tolist())) == [1, 2]
    for i, used in enumerate(found.experts.tolist()):
        expected = everyone.expert_logits[:used, i].mean(dim=0)
        assert torch.allclose(found.logits[i], expected, atol=1e-5)


def test_routed__is_one_linear_head_on_the_parts_that_were_asked() -> None:
    model, images = half_routed()
    weight, bias = model.head.linear()
    everyone, found = model.train()(images), model.eval()(images)
    torch.testing.assert_close(functional.linear(found.features, weight, bias), found.logits)
    parts = found.features.reshape(16, EXPERTS, 96)
    for i, used in enumerate(found.experts.tolist()):
        expected = everyone.features[i].reshape(EXPERTS, 96)[:used] * EXPERTS / used
        torch.testing.assert_close(parts[i, :used], expected)
        assert not parts[i, used:].any()
    torch.testing.assert_close(found.direct[:, :96], everyone.direct[:, :96])


def test_exported__is_routed_whatever_becomes_of_its_head() -> None:
    model, images = half_routed()
    before = model.eval()(images)
    exported = export(model).eval()
    with torch.no_grad():
        torch.testing.assert_close(exported(images), before.logits)
        exported.head.weight[0] += 7  # a corrected row
        torch.testing.assert_close(exported.features(images), before.features)


def test_routed__gives_gradients_to_images() -> None:
    model, images = half_routed()
    exported = export(model).eval()
    moving = images.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(exported(moving).max(dim=1).values.sum(), moving)
    assert bool((gradient.flatten(1).abs().sum(1) > 0).all())


def test_router__needs_a_trained_ride_model() -> None:
    plain = METHODS["plain"].stages[0].build_model(SETTING)
    for previous in (None, plain):
        with pytest.raises(InputError, match="trained RIDE model"):
            METHODS["ride-routing"].stages[1].build_model(SETTING, previous)
