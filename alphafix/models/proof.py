"""The proof that features and head are the model's own: head(features) == logits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from alphafix.errors import InputError, option

# Largest difference allowed, relative to the largest logit: some hundred rounding errors.
# With autocast the model's own head rounds its inputs and its result.
TOLERANCE = {"fp32": 2e-4, "fp16": 1e-2, "bf16": 5e-2}


@dataclass(frozen=True)
class Reading:
    """How a model makes its logits of features and a weight matrix.

    Attributes:
        normalised: Whether features and rows are divided by their norms (cosine).
        scale: What the logits are multiplied with.
    """

    normalised: bool = False
    scale: float = 1.0

    def features(self, features: Tensor) -> Tensor:
        """N x D features as the head in effect takes them."""
        return torch.nn.functional.normalize(features, dim=1) if self.normalised else features

    def logits(self, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """N x C logits."""
        rows = self.features(weight)
        scores = self.features(features) @ rows.T
        return (scores if bias is None else scores + bias) * self.scale


def relative_error(found: Tensor, logits: Tensor) -> float:
    """Largest difference between logits, relative to the largest logit."""
    return float((found - logits).abs().max() / logits.abs().max().clamp_min(1e-12))


def find_reading(
    features: Tensor, logits: Tensor, weight: Tensor, bias: Tensor | None, *, precision: str
) -> Reading:
    """Find how the model's own logits follow from its features and its head.

    Tried are the plain linear layer, one with a factor on all logits, and the cosine
    classifier with a factor; whichever reproduces the logits is proven by doing so.

    Args:
        features: N x D, what entered the head.
        logits: N x C, what the model gave.
        weight: C x D.
        bias: C, or None.
        precision: "fp32", "fp16" or "bf16": how exact the model's logits are.

    Raises:
        InputError: If none of them does.
    """
    if logits.ndim != 2 or logits.shape[1] != len(weight):
        raise InputError(
            "the head does not give the model's own logits",
            got=f"a layer of {len(weight)} rows, logits of shape {tuple(logits.shape)}",
            expected="one row a class",
            todo=f"name the last layer with {option('head')}",
        )
    # To the CPU first: Apple's GPUs have no float64.
    features, logits = features.cpu().double(), logits.cpu().double()
    weight = weight.cpu().double()
    bias = None if bias is None else bias.cpu().double()
    errors: dict[str, float] = {}
    for normalised in (False, True):
        unit = Reading(normalised).logits(features, weight, bias)
        for scale in (1.0, _fit(unit, logits)):
            error = relative_error(unit * scale, logits)
            if error <= TOLERANCE[precision] and scale > 0:
                return Reading(normalised, scale)
            kind = ("cosine" if normalised else "linear") + (
                f" x {scale:.4g}" if scale != 1 else ""
            )
            errors[kind] = error
    raise InputError(
        "the head does not give the model's own logits",
        got="relative difference "
        + ", ".join(f"{error:.2g} ({kind})" for kind, error in errors.items()),
        expected=f"head(features) == logits within {TOLERANCE[precision]:g}, in {precision}",
        todo="the model does something else with its last layer (several heads, a layer after "
        "it), which alphafix does not correct; give a model with one linear head",
    )


def _fit(unit: Tensor, logits: Tensor) -> float:
    """The factor that brings ``unit`` nearest to ``logits`` (least squares)."""
    power = float((unit * unit).sum())
    return float((unit * logits).sum()) / power if power > 0 else 1.0
