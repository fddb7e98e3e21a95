"""Features of a torch module: what enters its head, caught on the way to the logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from alphafix.errors import InputError


class HookedModel(nn.Module):
    """Runs a classifier and catches what enters its head.

    Args:
        module: The classifier.
        head: Its head, a part of ``module``.
        logits_of: Takes the logits out of what ``module`` returns.
    """

    def __init__(
        self, module: nn.Module, head: nn.Module, logits_of: Callable[[Any], Tensor]
    ) -> None:
        super().__init__()
        self.module = module
        self.logits_of = logits_of
        self._caught: list[Tensor] = []
        head.register_forward_pre_hook(self._catch)

    def _catch(self, head: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._caught.append(inputs[0])

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map N images to N x D features and N x C logits.

        Raises:
            InputError: If the head ran another number of times than once, or on something
                else than one vector an image.
        """
        self._caught.clear()
        logits = self.logits_of(self.module(images))
        if len(self._caught) != 1 or self._caught[0].ndim != 2:
            raise InputError(
                "the head does not run once on one vector an image",
                got=f"inputs of shapes {[tuple(x.shape) for x in self._caught]}",
                expected=f"one of {len(images)} x D",
                todo="alphafix corrects heads that see one pooled vector an image",
            )
        return self._caught.pop(), logits


def linear_modules(module: nn.Module) -> dict[str, nn.Module]:
    """Modules that could be a head, by name: those with a weight matrix of their own.

    Not only `nn.Linear`: cosine classifiers are modules of their own kind.
    """
    return {
        name: part
        for name, part in module.named_modules()
        if isinstance(weight := part._parameters.get("weight"), Tensor)
        and weight.ndim == 2
        and not isinstance(part, nn.Embedding)
    }


def find_head_module(module: nn.Module, images: Tensor, logits_of: Callable[[Any], Tensor]) -> str:
    """Find the linear layer whose output is the logits (but for a factor).

    Args:
        module: The classifier, in evaluation mode.
        images: A few images, as the classifier takes them.
        logits_of: Takes the logits out of what ``module`` returns.

    Returns:
        Its name.

    Raises:
        InputError: If there is none, or more than one.
    """
    outputs: dict[str, object] = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(part: nn.Module, inputs: Any, output: Any) -> None:
            outputs[name] = output

        return hook

    linears = linear_modules(module)
    handles = [part.register_forward_hook(keep(name)) for name, part in linears.items()]
    try:
        logits = logits_of(module(images))
    finally:
        for handle in handles:
            handle.remove()
    found = [name for name, output in outputs.items() if same_but_for_a_factor(output, logits)]
    if len(found) != 1:
        raise InputError(
            "the head of the model is not certain",
            got=f"{len(found)} of {len(linears)} linear layers give its logits"
            + (f": {', '.join(found)}" if found else ""),
            expected="exactly one",
            todo="give the model a method get_classifier() that returns its head; if it makes "
            "its logits of several heads, alphafix cannot correct it",
        )
    return found[0]


def same_but_for_a_factor(output: object, logits: Tensor) -> bool:
    """Whether something is the logits, divided by a positive number."""
    if not isinstance(output, Tensor) or output.shape != logits.shape:
        return False
    # In float64, and by the angle between both: a factor on all logits does not matter.
    a, b = output.cpu().double().flatten(), logits.cpu().double().flatten()
    angle = torch.dot(a, b) / (a.norm() * b.norm()).clamp_min(1e-30)
    return bool(angle > 1 - 1e-9)
