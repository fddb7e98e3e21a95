"""Backbones, networks, heads and whole models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from alphafix.checkpoints.weights import load_strictly
from alphafix.errors import InputError
from alphafix.oltr.losses.objectives import Objective, OLTRObjective
from alphafix.oltr.models.attention import ModulatedAttention
from alphafix.oltr.models.backbones import build_backbone
from alphafix.oltr.models.heads import Head, LinearHead, OLTRHead
from alphafix.oltr.models.network import LongTailModel, Network
from alphafix.oltr.models.ride import RideHead
from alphafix.oltr.models.spec import OFFICIAL, PAPER, PRESETS, Ablations, Preset


def small_model(
    *,
    classes: int = 5,
    width: int | None = 16,
    preset: Preset = OFFICIAL,
    ablations: Ablations | None = None,
) -> LongTailModel:
    """OLTR on the small backbone, for grey images of 16 pixels."""
    ablations = ablations or Ablations()
    backbone = build_backbone("small", input_channels=1)
    attention = None
    if ablations.attention:
        size = backbone.map_size(16, 16)
        attention = ModulatedAttention(backbone.channels, size, ablations.attention_map)
    network = Network(backbone, attention, width)
    return LongTailModel(network, OLTRHead(network.width, classes, preset, ablations))


@pytest.mark.parametrize(
    ("name", "side", "shape"),
    [
        ("small", 16, (96, 2, 2)),
        ("small", 32, (96, 4, 4)),
        ("resnet10", 224, (512, 7, 7)),
        ("resnet32", 32, (64, 8, 8)),
        ("timm:test_resnet", 64, (96, 2, 2)),
        ("timm:test_mambaout", 64, (64, 2, 2)),
        ("timm:test_vit", 160, (64, 10, 10)),
        ("timm:test_vit", 96, (64, 6, 6)),
    ],
)
def test_backbone__gives_a_map_with_channels_first(
    name: str, side: int, shape: tuple[int, int, int]
) -> None:
    backbone = build_backbone(name)
    assert backbone.channels == shape[0]
    assert backbone.map_size(side, side) == shape[1:]
    assert backbone.training
    with torch.no_grad():
        assert backbone(torch.zeros(2, 3, side, side)).shape == (2, *shape)


def test_backbone__takes_grey_images() -> None:
    for name in ("small", "resnet10", "resnet32", "timm:test_resnet"):
        backbone = build_backbone(name, input_channels=1)
        assert backbone.map_size(32, 32)[0] >= 1


def test_resnet32__is_that_of_cifar() -> None:
    """Its parameters are as many as published: 464,154 with a head of 10 classes."""
    backbone = build_backbone("resnet32")
    convolutions = [m for m in backbone.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 31  # and the head
    assert sum(p.numel() for p in backbone.parameters()) == 464_154 - 650


def test_backbone__tokens_lie_as_in_the_image() -> None:
    backbone = build_backbone("timm:test_vit").eval()
    model = backbone.get_submodule("body.model")
    images = torch.randn(1, 3, 160, 160)
    with torch.no_grad():
        features = backbone(images)
        tokens = model.forward_features(images)  # type: ignore[operator]
    assert model.num_prefix_tokens == 1
    torch.testing.assert_close(features[0, :, 0, 1], tokens[0, 2])
    torch.testing.assert_close(features[0, :, 1, 0], tokens[0, 11])


def test_resnet10__has_four_blocks_that_are_not_zero_at_the_start() -> None:
    backbone = build_backbone("resnet10")
    # Stem 3·64·49 + 2·64; a block of w channels after v: 9vw + 9ww + 4w, shortcut vw + 2w.
    blocks = [(64, 64), (64, 128), (128, 256), (256, 512)]
    size = sum(9 * v * w + 9 * w * w + 4 * w + (v * w + 2 * w) * (v != w) for v, w in blocks)
    assert sum(p.numel() for p in backbone.parameters()) == 3 * 64 * 49 + 2 * 64 + size
    last_norms = [p for name, p in backbone.named_parameters() if name.endswith("bn2.weight")]
    assert len(last_norms) == 4
    assert all(bool((p == 1).all()) for p in last_norms)


@pytest.mark.parametrize("name", ["resnet", "timm:", "timm:no_such_model"])
def test_backbone__unknown_name_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"there is no backbone|cannot be made"):
        build_backbone(name)


def test_backbone__own_ones_have_no_pretrained_weights() -> None:
    with pytest.raises(InputError, match="no backbone resnet10 with pretrained weights"):
        build_backbone("resnet10", pretrained=True)


def test_backbone__image_size_that_it_does_not_take() -> None:
    with pytest.raises(InputError, match="does not take images of this size"):
        build_backbone("timm:vit_relpos_small_patch16_224").map_size(64, 64)


def test_network__is_the_relu_of_a_layer_on_the_pooled_map() -> None:
    torch.manual_seed(0)
    network = Network(build_backbone("small"), None, 8).eval()
    assert network.width == 8
    images = torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        pooled = network.backbone(images).mean((2, 3))
        assert network.fc_add is not None
        expected = functional.relu(network.fc_add(pooled))
        torch.testing.assert_close(network(images), expected)


def test_network__without_width_gives_the_pooled_map() -> None:
    network = Network(build_backbone("small")).eval()
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(network(images), network.backbone(images).mean((2, 3)))
    assert network.width == 96


def test_network__image_size_that_does_not_match_the_attention_is_named() -> None:
    model = small_model()
    with pytest.raises(InputError, match="does not match the modulated attention"):
        model(torch.zeros(1, 1, 32, 32))


HEADS: dict[str, Head] = {
    "linear": LinearHead(6, 4),
    "cosine": RideHead(6, 4, 1, 16.0),
    "oltr official": OLTRHead(6, 4, OFFICIAL),
    "oltr paper": OLTRHead(6, 4, PAPER),
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_head__is_a_plain_linear_layer_on_its_features(head: Head) -> None:
    direct = torch.randn(5, 6)
    output = head(direct)
    weight, bias = head.linear()
    assert weight.shape == (4, 6)
    torch.testing.assert_close(functional.linear(output.features, weight, bias), output.logits)
    assert output.direct is direct


def test_cosine_head__logits_are_cosines_times_scale() -> None:
    head = RideHead(2, 2, 1, 16.0)
    with torch.no_grad():
        head.classifiers[0].weight.copy_(torch.tensor([[0.0, 3.0], [4.0, 3.0]]))
    logits = head(torch.tensor([[10.0, 0.0], [0.0, 0.5]])).logits
    torch.testing.assert_close(logits, torch.tensor([[0.0, 12.8], [16.0, 9.6]]))


def trained(model: LongTailModel, objective: torch.nn.Module, steps: int) -> list[float]:
    """Losses of some steps on a small batch of the model's own."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(5).repeat(4)
    patterns = torch.randn(5, 1, 16, 16, generator=generator)
    images = patterns[labels] + 0.1 * torch.randn(20, 1, 16, 16, generator=generator)
    groups = [{"params": [p for n, p in model.named_parameters() if n != "head.centroids"]}]
    own = objective.parameter_groups()  # type: ignore[operator]
    optimiser = torch.optim.SGD(groups + own, lr=0.02, momentum=0.9)
    losses = []
    for _ in range(steps):
        optimiser.zero_grad()
        loss: Tensor = objective(model(images), labels)
        torch.autograd.backward(loss)
        optimiser.step()
        losses.append(loss.item())
    return losses


ABLATIONS = {
    "full": Ablations(),
    "memory": Ablations(memory=False),
    "selector": Ablations(selector=False),
    "reachability": Ablations(reachability=False),
    "attention": Ablations(attention=False),
    "plain map": Ablations(attention_map="plain"),
}


@pytest.mark.parametrize("ablations", ABLATIONS.values(), ids=ABLATIONS)
@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_model__learns_a_small_problem(preset: Preset, ablations: Ablations) -> None:
    torch.manual_seed(0)
    model = small_model(preset=preset, ablations=ablations)
    losses = trained(model, OLTRObjective(model.head), steps=15)  # type: ignore[arg-type]
    assert all(map(torch.isfinite, torch.tensor(losses)))
    assert losses[-1] < losses[0]


def test_model__every_parameter_gets_a_gradient() -> None:
    torch.manual_seed(0)
    model = small_model()
    trained(model, OLTRObjective(model.head), steps=2)  # type: ignore[arg-type]
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("ablations", ABLATIONS.values(), ids=ABLATIONS)
@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_model__bf16_stays_near_fp32(preset: Preset, ablations: Ablations) -> None:
    torch.manual_seed(0)
    model = small_model(preset=preset, ablations=ablations)
    model.network.eval()
    objective = OLTRObjective(model.head)  # type: ignore[arg-type]
    images, labels = torch.randn(6, 1, 16, 16), torch.tensor([0, 0, 1, 2, 3, 4])
    exact = objective(model(images), labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = objective(model(images), labels)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=0.02, atol=0.02)
    torch.autograd.backward(rounded)
    assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in model.parameters())


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_model__is_one_graph_for_the_compiler(preset: Preset) -> None:
    torch.manual_seed(0)
    model = small_model(preset=preset).eval()
    objective = OLTRObjective(model.head)  # type: ignore[arg-type]

    def step(images: Tensor, labels: Tensor) -> Tensor:
        loss: Tensor = objective(model(images), labels)
        return loss

    images, labels = torch.randn(3, 1, 16, 16), torch.tensor([0, 0, 1])
    compiled = torch.compile(step, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images, labels), step(images, labels))


def test_model__plain_head_with_cross_entropy_learns() -> None:
    torch.manual_seed(0)
    network = Network(build_backbone("small", input_channels=1))
    losses = trained(LongTailModel(network, LinearHead(network.width, 5)), Objective(), 15)
    assert losses[-1] < losses[0] / 2


def test_model__same_output_after_saving_and_strict_loading(tmp_path: Path) -> None:
    model = small_model().eval()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    other = small_model().eval()
    state = load_file(tmp_path / "model.safetensors")
    load_strictly(other, state, file=tmp_path / "model.safetensors", spec="the model")
    images = torch.randn(3, 1, 16, 16)
    with torch.no_grad():
        assert torch.equal(model(images).logits, other(images).logits)


def test_model__checkpoint_of_another_architecture_is_named() -> None:
    state = small_model(ablations=Ablations(attention=False)).state_dict()
    with pytest.raises(InputError) as caught:
        load_strictly(small_model(), state, file=Path("a.safetensors"), spec="OLTR")
    assert "a.safetensors does not hold the weights of OLTR" in str(caught.value)
    assert "missing: network.attention.spatial.weight" in str(caught.value)
    state = small_model(width=None).state_dict()
    with pytest.raises(InputError, match=r"other shape: head.centroids \(5, 96\)"):
        load_strictly(small_model(), state, file=Path("a.safetensors"), spec="OLTR")
    state = small_model().state_dict()
    with pytest.raises(InputError, match=r"unexpected: head\.memory\.selector\.weight"):
        load_strictly(
            small_model(ablations=Ablations(selector=False)),
            state,
            file=Path("a.safetensors"),
            spec="OLTR",
        )
