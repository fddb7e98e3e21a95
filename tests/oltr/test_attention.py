"""Modulated attention (OLTR, Eq. 5): values by hand, any map size, and what it refuses."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from alphafix.errors import InputError
from alphafix.oltr.models.attention import ModulatedAttention


def randomised(attention: ModulatedAttention) -> ModulatedAttention:
    """Give the layer that starts at zero random weights, as after training."""
    assert attention.self_attention is not None
    torch.nn.init.normal_(attention.self_attention.out.weight)
    return attention


def plainly(attention: ModulatedAttention, features: Tensor) -> Tensor:
    """Eq. 5 written out, one sample and one position at a time."""
    assert attention.self_attention is not None
    embed, out = attention.self_attention.embed, attention.self_attention.out
    result = torch.empty_like(features)
    for b, sample in enumerate(features):
        f = sample.flatten(1).T  # P x C'
        theta, phi, g = (f @ embed.weight.T + embed.bias).chunk(3, 1)
        ma = (attention.spatial.weight @ f.flatten() + attention.spatial.bias).softmax(0)
        for p in range(len(f)):
            shares = torch.stack([theta[p] @ phi[q] for q in range(len(f))]).softmax(0)
            sa = out.weight @ sum((shares[q] * g[q] for q in range(len(f))), torch.tensor(0.0))
            result[b].flatten(1)[:, p] = f[p] + ma[p] * sa
    return result


def test_attention__hand_computed() -> None:
    attention = ModulatedAttention(2, (1, 2))
    assert attention.self_attention is not None
    with torch.no_grad():
        # θ and g are the first channel, φ the second; SA goes into the second channel.
        attention.self_attention.embed.weight.copy_(
            torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
        )
        attention.self_attention.out.weight.copy_(torch.tensor([[0.0], [1.0]]))
        # MA = softmax(0, log 3) = (1/4, 3/4) for every map.
        attention.spatial.weight.zero_()
        attention.spatial.bias.copy_(torch.tensor([0.0, math.log(3)]))
    # Two positions with channels (1, 0) and (2, log 2).
    features = torch.tensor([[[[1.0, 2.0]], [[0.0, math.log(2)]]]])
    # Position 1: θ·φ = (0, log 2), shares (1/3, 2/3), SA = 1/3 · 1 + 2/3 · 2 = 5/3.
    # Position 2: θ·φ = (0, 2 log 2), shares (1/5, 4/5), SA = 1/5 + 8/5 = 9/5.
    expected = torch.tensor([[[[1.0, 2.0]], [[5 / 12, math.log(2) + 27 / 20]]]])
    torch.testing.assert_close(attention(features), expected)


@pytest.mark.parametrize("size", [(7, 7), (2, 3), (1, 1)])
def test_attention__of_any_map_size_is_equation_5(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    attention = randomised(ModulatedAttention(6, size))
    features = torch.randn(3, 6, *size)
    with torch.no_grad():
        expected = plainly(attention, features)
        torch.testing.assert_close(attention(features), expected, rtol=1e-4, atol=1e-5)


def test_attention__on_the_plain_map_weighs_its_positions() -> None:
    attention = ModulatedAttention(2, (1, 2), on="plain")
    with torch.no_grad():
        attention.spatial.weight.zero_()
        attention.spatial.bias.copy_(torch.tensor([0.0, math.log(3)]))
    features = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])
    expected = torch.tensor([[[[1.25, 3.5]], [[3.75, 7.0]]]])
    torch.testing.assert_close(attention(features), expected)
    assert attention.self_attention is None


def test_attention__starts_as_the_identity() -> None:
    features = torch.randn(2, 8, 3, 3)
    assert torch.equal(ModulatedAttention(8, (3, 3))(features), features)


def test_attention__keeps_the_memory_layout() -> None:
    attention = randomised(ModulatedAttention(8, (3, 4)))
    features = torch.randn(2, 8, 3, 4)
    last = attention(features.contiguous(memory_format=torch.channels_last))
    assert last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last, attention(features))


def test_attention__gradients_by_finite_differences() -> None:
    torch.manual_seed(0)
    attention = randomised(ModulatedAttention(4, (2, 2))).double()
    features = torch.randn(2, 4, 2, 2, dtype=torch.float64, requires_grad=True)
    parameters = tuple(attention.parameters())
    assert torch.autograd.gradcheck(lambda f, *_: attention(f), (features, *parameters))


def test_attention__names_a_map_that_does_not_match() -> None:
    attention = ModulatedAttention(4, (7, 7))
    with pytest.raises(InputError) as caught:
        attention(torch.zeros(1, 4, 8, 8))
    message = str(caught.value)
    assert "the feature map does not match the modulated attention" in message
    assert "4 x 8 x 8" in message
    assert "4 x 7 x 7" in message
