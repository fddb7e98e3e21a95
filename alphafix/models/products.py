"""Heads that are no module: a matrix of the model that it multiplies features with itself.

Zero-shot classifiers in the manner of CLIP are made so: the cosines of image features and stored
class embeddings, times a learned factor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from alphafix.errors import InputError, option
from alphafix.models.hooked import same_but_for_a_factor
from alphafix.models.model import Caught

# Features, C x D rows (a view), what the product gave.
Product = tuple[Tensor, Tensor, Tensor]

_LINEAR = (nn.functional.linear,)
_MATMUL = (torch.matmul, torch.mm, Tensor.matmul, Tensor.mm, Tensor.__matmul__)


class Products(TorchFunctionMode):
    """Notes the products of a batch of vectors and a matrix that are made under it.

    Args:
        only: The number of the one that is noted, or None for all.
    """

    def __init__(self, only: int | None = None) -> None:
        super().__init__()
        self._only = only
        self._count = 0
        self.noted: dict[int, Product] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do what is to be done, and note it if it is such a product."""
        found = func(*args, **(kwargs or {}))
        if func in (*_LINEAR, *_MATMUL) and isinstance(found, Tensor) and found.ndim == 2:
            features, matrix = (*args, *(kwargs or {}).values())[:2]
            if matrix.ndim == 2:
                rows = matrix if func in _LINEAR else matrix.T
                if self._only in (None, self._count):
                    self.noted[self._count] = (features, rows, found)
                self._count += 1
        return found


class ProductModel(nn.Module):
    """Runs a classifier and notes what enters the product that makes its logits.

    Args:
        module: The classifier.
        number: Which of its products that is.
        logits_of: Takes the logits out of what ``module`` returns.
    """

    def __init__(self, module: nn.Module, number: int, logits_of: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.module = module
        self._number = number
        self._logits_of = logits_of

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map N images to N x D features and N x C logits."""
        with Products(self._number) as products:
            logits = self._logits_of(self.module(images))
        return products.noted[self._number][0], logits


def find_product(
    module: nn.Module,
    images: Tensor,
    logits_of: Callable[[Any], Tensor],
    *,
    name: str | None = None,
) -> Caught | None:
    """Find the product that makes the logits (but for a factor), and the matrix in it.

    Args:
        module: The classifier, in evaluation mode.
        images: A few images, as the classifier takes them.
        logits_of: Takes the logits out of what ``module`` returns.
        name: Name of the matrix, if the user gave it.

    Returns:
        None if there is no such product.

    Raises:
        InputError: If the matrix in it is none that the model stores, or not the one of that
            name.
    """
    with Products() as products:
        logits = logits_of(module(images))
    for number, (_, rows, result) in reversed(products.noted.items()):
        if not same_but_for_a_factor(result, logits):
            continue
        tensors = dict(module.named_parameters()) | dict(module.named_buffers())
        for own, tensor in tensors.items():
            weight = _as_rows(tensor, rows)
            if weight is not None and name in (None, own):
                return Caught(ProductModel(module, number, logits_of), weight, None, own)
        raise InputError(
            "the rows that make the model's logits are not stored in it",
            got=f"a matrix of {tuple(rows.shape)} that the model computes",
            expected="a parameter or buffer of it" + ("" if name is None else f", {name}"),
            todo="compute the class embeddings once and store them: "
            "model.classes = torch.nn.Parameter(embeddings); "
            f"{option('head')} names another tensor",
        )
    return None


def _as_rows(tensor: Tensor, rows: Tensor) -> Tensor | None:
    """The tensor as C x D, if ``rows`` are its own, whatever their lengths."""
    for turned in (tensor, tensor.T) if tensor.ndim == 2 else ():
        if turned.shape == rows.shape:
            unit = nn.functional.normalize
            apart = unit(turned.detach().float(), dim=1) - unit(rows.detach().float(), dim=1)
            if float(apart.abs().max()) < 1e-3:
                return turned
    return None
