"""A classifier as it is asked for and as it is loaded: what all kinds of backbones share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from alphafix.errors import InputError, option
from alphafix.models.preprocess import Overrides, Preprocess


def plain_logits(output: Any) -> Any:
    """The logits of a model that returns nothing else."""
    return output


def logits_attribute(output: Any) -> Any:
    """The logits of a model that returns them as an attribute (transformers)."""
    return output.logits


Variants = Callable[[Tensor], Iterator[tuple[Mapping[str, Any], Tensor]]]
"""N images -> arguments with which the same weights load, and the N x C logits that the model gives
with them; first those of the model as it is taken."""


class AmbiguousModelError(InputError):
    """Weights that fit several models, none of which is the usual one.

    Args:
        message: What is wrong.
        choices: The arguments of each.
        said: Further words of the error, as `InputError` takes them.
    """

    def __init__(self, message: str, choices: tuple[Mapping[str, Any], ...], **said: str) -> None:
        super().__init__(message, **said)
        self.choices = choices
        self._said = message, said

    def but(self, got: str) -> InputError:
        """The same error, which says what else was found."""
        message, said = self._said
        return InputError(message, **{**said, "got": f"{said['got']}; {got}"})


@dataclass(frozen=True)
class Wanted:
    """What the user says of a model.

    Attributes:
        kind: The library or format, like "timm".
        name: Which model of it.
        weights: The checkpoint, where the name does not say it.
        overrides: Changes to the transform.
        section: The part of a torch file that the weights are in ("" for the usual one).
        args: Arguments that the model was made with, by name.
        preprocess: The transform, where it is known already: an export runs with that of the
            model that it was made from.
    """

    kind: str
    name: str
    weights: Path | None = None
    overrides: Overrides = field(default_factory=Overrides)
    section: str = ""
    args: Mapping[str, Any] = field(default_factory=dict)
    preprocess: Preprocess | None = None

    @property
    def spec(self) -> str:
        """The specification as the user gives it."""
        return f"{self.kind}:{self.name}"

    def refuse_args(self) -> None:
        """Raise if arguments were given for a model whose file says all of them.

        Raises:
            InputError: Naming them.
        """
        if self.args:
            raise InputError(
                f"{self.spec} takes no arguments",
                got=", ".join(self.args),
                expected="what its file says",
                todo=f"leave {option('model_arg')} out",
            )


@dataclass(frozen=True)
class Caught:
    """A model that gives features beside logits, and its head.

    Attributes:
        model: Maps N images to N x D features, which enter the head, and N x C logits.
        weight: C x D.
        bias: C, or None.
        name: Name of the weight in the model's file.
        plain_rows: Whether it is known that the rows are used as they are stored, as a graph
            shows; otherwise ``weight`` is what the model runs with, and can be tried.
    """

    model: nn.Module
    weight: Tensor
    bias: Tensor | None
    name: str
    plain_rows: bool = False


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
        precision: How exactly the model computes by itself: "fp16" for a graph of such numbers.
        args: Arguments that it was made with, those that a file beside the weights says too.
        variants: What it would give if it was made with others that its weights fit as well, where
            nothing says which: the library's defaults are taken.
    """

    module: nn.Module
    preprocess: Preprocess
    weights: Path | None
    head_name: str | None = None
    logits_of: Callable[[Any], Tensor] = plain_logits
    class_names: tuple[str, ...] | None = None
    caught: Caught | None = None
    precision: str = "fp32"
    args: Mapping[str, Any] = field(default_factory=dict)
    variants: Variants | None = None
