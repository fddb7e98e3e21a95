"""Modulated attention: spatial attention on a self-attention map (OLTR, Section 3.2).

Shapes: B samples, C' channels, P = h·w positions.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from alphafix.errors import InputError


class SelfAttention(nn.Module):
    """Embedded-Gaussian non-local block: SA(f) = W_out softmax(θ(f) φ(f)ᵀ) g(f) (OLTR, Eq. 5).

    θ, φ and g map a position's C' channels to C'/2. W_out starts at zero, so that training
    starts without attention.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = channels // 2
        # One layer for θ, φ and g: one product instead of three.
        self.embed = nn.Linear(channels, 3 * self.inner)
        self.out = nn.Linear(self.inner, channels, bias=False)
        nn.init.kaiming_normal_(self.embed.weight)
        nn.init.zeros_(self.embed.bias)
        nn.init.zeros_(self.out.weight)

    def forward(self, positions: Tensor) -> Tensor:
        """Map B x P x C' to B x P x C'."""
        theta, phi, g = self.embed(positions).chunk(3, dim=-1)
        context = functional.scaled_dot_product_attention(theta, phi, g, scale=1.0)
        attended: Tensor = self.out(context)
        return attended


class ModulatedAttention(nn.Module):
    """f + MA(f) ⊗ SA(f), with MA(f) = softmax over positions of W vec(f) + b (OLTR, Eq. 5).

    Args:
        channels: C'.
        size: h, w of the maps.
        on: What MA(f) weighs: the "self"-attention map SA(f), or the "plain" map f (Figure 5 c).
    """

    def __init__(
        self, channels: int, size: tuple[int, int], on: Literal["self", "plain"] = "self"
    ) -> None:
        super().__init__()
        self.shape = (channels, *size)
        positions = size[0] * size[1]
        self.spatial = nn.Linear(positions * channels, positions)
        self.self_attention = SelfAttention(channels) if on == "self" else None

    def forward(self, features: Tensor) -> Tensor:
        """Map B x C' x h x w to the same shape.

        Raises:
            InputError: If the map is not of the size that the attention was made for.
        """
        if tuple(features.shape[1:]) != self.shape:
            raise InputError(
                "the feature map does not match the modulated attention",
                got="C' x h x w = " + " x ".join(map(str, features.shape[1:])),
                expected=" x ".join(map(str, self.shape)),
                todo="give images of the size that the model was made for",
            )
        # Positions first: a view, not a copy, of maps in channels_last layout.
        positions = features.flatten(2).transpose(1, 2)
        weights = self.spatial(positions.flatten(1)).softmax(1).unsqueeze(2)
        attended = positions if self.self_attention is None else self.self_attention(positions)
        final: Tensor = positions + weights * attended
        return final.transpose(1, 2).reshape(features.shape)
