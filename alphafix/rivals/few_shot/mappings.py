"""Mappings of rows that are trained side by side: they see the same rows, drawn once for all."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import functional_call


class Mappings:
    """M copies of a mapping of rows.

    Args:
        model: The mapping that each is at the start.
        copies: M.

    Attributes:
        parameters: By name those of all copies, which the first axis tells apart; matrices are
            transposed, as their gradients are, which need not be turned for the optimiser then.
    """

    def __init__(self, model: torch.nn.Module, copies: int) -> None:
        self._model = model
        self.parameters = {
            name: _turned(parameter.detach()).repeat(copies, *[1] * parameter.ndim).requires_grad_()
            for name, parameter in model.named_parameters()
        }

    def __call__(self, rows: Tensor, *more: object) -> Tensor:
        """What each makes of the same rows, R x D -> M x R x D; ``more`` as the model takes it."""

        def one(parameters: dict[str, Tensor]) -> Tensor:
            turned = {name: _turned(parameter) for name, parameter in parameters.items()}
            found: Tensor = functional_call(self._model, turned, (rows, *more))
            return found

        found: Tensor = torch.vmap(one)(self.parameters)
        return found


def _turned(parameter: Tensor) -> Tensor:
    """A matrix transposed, anything else as it is."""
    return parameter.mT if parameter.ndim == 2 else parameter
