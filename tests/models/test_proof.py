"""How logits follow from features and a head, found from the numbers alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from alphafix.errors import InputError
from alphafix.models.preprocess import Normalization, Overrides, ResizeCrop
from alphafix.models.proof import find_reading


def numbers(seed: int, bias: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    draw = torch.Generator().manual_seed(seed)
    features = torch.randn(7, 5, generator=draw)
    weight = torch.randn(4, 5, generator=draw)
    return features, weight, torch.randn(4, generator=draw) if bias else None


@given(seed=st.integers(0, 99), scale=st.sampled_from([1.0, 0.25, 30.0]), bias=st.booleans())
@settings(max_examples=25, deadline=None)
def test_reading__linear_with_a_factor(seed: int, scale: float, bias: bool) -> None:
    features, weight, offset = numbers(seed, bias)
    logits = scale * torch.nn.functional.linear(features, weight, offset)
    reading = find_reading(features, logits, weight, offset, precision="fp32")
    assert not reading.normalised
    assert reading.scale == pytest.approx(scale, rel=1e-4)
    found = reading.logits(features, weight, offset)
    torch.testing.assert_close(found, logits, rtol=1e-3, atol=1e-3 * scale)


@given(seed=st.integers(0, 99), scale=st.sampled_from([1.0, 16.0]))
@settings(max_examples=25, deadline=None)
def test_reading__cosine(seed: int, scale: float) -> None:
    features, weight, _ = numbers(seed, False)
    unit = torch.nn.functional.normalize
    logits = scale * unit(features, dim=1) @ unit(weight, dim=1).T
    reading = find_reading(features, logits, weight, None, precision="fp32")
    assert reading.normalised
    assert reading.scale == pytest.approx(scale, rel=1e-4)


@pytest.mark.parametrize(
    "make",
    [
        lambda f, w: torch.softmax(f @ w.T, dim=1),
        lambda f, w: -(f @ w.T),
        lambda f, w: (f @ w.T) * torch.tensor([1.0, 1.1, 0.9, 1.0]),
        lambda f, w: (f @ w.T).roll(1, dims=1),
        lambda f, w: (f + 0.01) @ w.T,
    ],
    ids=["softmax", "negated", "scale a class", "other class order", "other features"],
)
def test_reading__anything_else_is_refused(make: object) -> None:
    features, weight, _ = numbers(0, bias=False)
    logits = make(features, weight)  # type: ignore[operator]
    with pytest.raises(InputError, match="does not give the model's own logits") as raised:
        find_reading(features, logits, weight, None, precision="fp32")
    assert "(linear)" in str(raised.value)
    assert "(cosine)" in str(raised.value)


def test_normalization__is_totensor_and_normalize() -> None:
    from torchvision import transforms

    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    image = Image.effect_noise((8, 8), 90).convert("RGB")
    expected = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])(image)
    pixels = ResizeCrop(8, (8, 8))(image)[None]
    torch.testing.assert_close(Normalization(mean, std)(pixels)[0], expected)


def test_resize_crop__is_torchvisions_own_preset() -> None:
    from torchvision.models import ResNet18_Weights

    preset = ResNet18_Weights.IMAGENET1K_V1.transforms()
    image = Image.effect_noise((300, 400), 90).convert("RGB")
    found = ResizeCrop(256, (224, 224), "bilinear")(image)[None]
    normalize = Normalization(tuple(preset.mean), tuple(preset.std))
    torch.testing.assert_close(normalize(found)[0], preset(image))


def test_overrides__refused_by_name() -> None:
    with pytest.raises(InputError, match="image_size=, crop_pct="):
        Overrides(image_size=3, crop_pct=0.5).refuse("python:x")
