"""A classifier as it is loaded: what all kinds of backbones have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from alphafix.models.preprocess import Preprocess


def plain_logits(output: Any) -> Any:
    """The logits of a model that returns nothing else."""
    return output


def logits_attribute(output: Any) -> Any:
    """The logits of a model that returns them as an attribute (transformers)."""
    return output.logits


@dataclass(frozen=True)
class Caught:
    """A model that gives features beside logits, and its head.

    Attributes:
        model: Maps N images to N x D features, which enter the head, and N x C logits.
        weight: C x D.
        bias: C, or None.
        name: Name of the weight in the model's file.
    """

    model: nn.Module
    weight: Tensor
    bias: Tensor | None
    name: str


@dataclass(frozen=True)
class Classifier:
    """A loaded classifier.

    Attributes:
        module: Maps N images to logits; in evaluation mode, on the CPU.
        preprocess: What makes its input of an image.
        weights: The file that the weights are from, or None if it is not known.
        head_name: Name of the head module, where the library says so.
        logits_of: Takes the N x C logits out of what ``module`` returns.
        class_names: C names in the order of the logits, where the model says so.
        caught: For graphs, which show what enters their head: ``module`` is its model.
    """

    module: nn.Module
    preprocess: Preprocess
    weights: Path | None
    head_name: str | None = None
    logits_of: Callable[[Any], Tensor] = plain_logits
    class_names: tuple[str, ...] | None = None
    caught: Caught | None = None
