"""The proof that features and head are the model's own: head(features) == logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from alphafix.errors import InputError, counted, option

# Largest difference allowed, relative to the largest logit: some hundred rounding errors.
# With autocast the model's own head rounds its inputs and its result.
TOLERANCE = {"fp32": 2e-4, "fp16": 1e-2, "bf16": 5e-2}

# As many images of the first batch at most go through the model again, by themselves.
FEW = 8


@dataclass(frozen=True)
class Reading:
    """How a model makes its logits of features and a weight matrix.

    Attributes:
        normalised: Whether features are divided by their norms.
        rows_normalised: Whether rows are (with both it is a cosine classifier).
        scale: What the logits are multiplied with.
    """

    normalised: bool = False
    rows_normalised: bool = False
    scale: float = 1.0

    def features(self, features: Tensor) -> Tensor:
        """N x D features as the head in effect takes them."""
        return _unit(features) if self.normalised else features

    def rows(self, weight: Tensor) -> Tensor:
        """C x D rows of the head in effect."""
        return _unit(weight) if self.rows_normalised else weight

    def logits(self, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """N x C logits."""
        scores = self.features(features) @ self.rows(weight).T
        return (scores if bias is None else scores + bias) * self.scale

    @property
    def kind(self) -> str:
        """What such a head is called."""
        names = {
            (False, False): "linear",
            (True, True): "cosine",
            (True, False): "linear on normalised features",
            (False, True): "linear with normalised rows",
        }
        return names[self.normalised, self.rows_normalised]


def _unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors, dim=1)


def relative_error(found: Tensor, logits: Tensor) -> float:
    """Largest difference between logits, relative to the largest logit."""
    return float((found - logits).abs().max() / logits.abs().max().clamp_min(1e-12))


def require_steady(logits: Tensor, again: Tensor, *, precision: str) -> None:
    """Check that a model gives an image the same logits, whenever and beside whichever others.

    With dropout, or with means and deviations of the batch in place of its own, it does not; a
    graph that was traced in training keeps both for ever.

    Args:
        logits: N x C, of a batch.
        again: M x C, of its first M images by themselves.
        precision: "fp32", "fp16" or "bf16": how exact they are.

    Raises:
        InputError: If they differ.
    """
    error = relative_error(again.float(), logits[: len(again)].float())
    if error > TOLERANCE[precision]:
        raise InputError(
            "the model gives other logits for the same images",
            got=f"relative difference {error:.2g} between a batch of {len(logits)} and its first "
            f"{len(again)} by themselves",
            expected=f"the same within {TOLERANCE[precision]:g}, in {precision}",
            todo="dropout or statistics of the batch are on: switch them off in the model's code "
            "(training=self.training), or export the model after model.eval()",
        )


def find_reading(
    features: Tensor,
    logits: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    precision: str,
    lengths_count: Callable[[], bool] = lambda: True,
) -> Reading:
    """Find how the model's own logits follow from its features and its head.

    Tried are the plain linear layer, with and without features or rows of norm 1, each with a
    factor on all logits; whichever reproduces the logits is proven by doing so.

    Args:
        features: N x D, what entered the head.
        logits: N x C, what the model gave.
        weight: C x D.
        bias: C, or None.
        precision: "fp32", "fp16" or "bf16": how exact the model's logits are.
        lengths_count: Tells whether the length of a row changes the model's logits; asked where
            all rows are equally long, so that the logits themselves cannot tell.

    Raises:
        InputError: If none of them does.
    """
    if logits.ndim != 2 or logits.shape[1] != len(weight):
        raise InputError(
            "the head does not give the model's own logits",
            got=f"a layer of {counted(len(weight), 'row')}, logits of shape {tuple(logits.shape)}",
            expected="one row a class",
            todo=f"name the last layer with {option('head')}",
        )
    # To the CPU first: Apple's GPUs have no float64.
    features, logits = features.cpu().double(), logits.cpu().double()
    weight = weight.cpu().double()
    bias = None if bias is None else bias.cpu().double()
    errors: dict[str, float] = {}
    fitting: list[Reading] = []
    for normalised, rows in ((False, False), (True, False), (True, True), (False, True)):
        unit = Reading(normalised, rows).logits(features, weight, bias)
        for scale in dict.fromkeys((1.0, _fit(unit, logits))):
            reading = Reading(normalised, rows, scale)
            error = relative_error(unit * scale, logits)
            if error <= TOLERANCE[precision] and scale > 0:
                fitting.append(reading)
                break
            errors[reading.kind + (f" x {scale:.4g}" if scale != 1 else "")] = error
    if fitting:
        if fitting[0].rows_normalised or not any(r.rows_normalised for r in fitting):
            return fitting[0]
        plain = lengths_count()
        return next(reading for reading in fitting if reading.rows_normalised is not plain)
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
