"""DisAlign: logits aligned as far as the sample asks for."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from alphafix.rivals.data import FitData, Fitted
from alphafix.rivals.training import RATES, HeadTraining, base_parameters, sgd, side_by_side
from alphafix.values.arrays import FloatArray

RECIPE = HeadTraining(epochs=10, batch=256)
POWER = 1.2


def class_weights(counts: Tensor) -> Tensor:
    """n_c^-1.2 / sum of all, times C, so that the mean is 1.

    The generalised re-weighting of Zhang et al. 2021, with the authors' exponent for ImageNet-LT.
    """
    weights = counts**-POWER
    return weights * (len(weights) / weights.sum())


def aligned(logits: Tensor, confidence: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """(1 + g s) z + g t, g the sample's confidence, n x 1, as in the authors' classifier.

    The paper's adaptive calibration, g (s z + t) + (1 - g) z (Zhang et al. 2021), is the same with
    s - 1 for s; what differs is that s starts at 1 in both, so that this one starts at (1 + g) z.
    """
    return (1 + confidence * scale) * logits + confidence * shift


class DisAlign(torch.nn.Module):
    """The base head with its alignment; only s, t and the confidence v.x + u are trained.

    Initial values are the authors': s = 1, t = 0, v = 0.1, and PyTorch's default for u.

    Args:
        data: The base head, and the seed.
        copies: R alignments of it side by side.
    """

    def __init__(self, data: FitData, copies: int = 1) -> None:
        super().__init__()
        self.weight, self.bias = (p.detach() for p in base_parameters(data))
        classes, width = self.weight.shape
        self.scale = torch.nn.Parameter(torch.ones(copies, classes))
        self.shift = torch.nn.Parameter(torch.zeros(copies, classes))
        self.direction = torch.nn.Parameter(torch.full((copies, width), 0.1))
        bound, generator = width**-0.5, torch.Generator().manual_seed(data.seed)
        level = torch.empty(()).uniform_(-bound, bound, generator=generator)
        self.level = torch.nn.Parameter(level.repeat(copies))

    def forward(self, x: Tensor) -> Tensor:
        """Logits, n x (R C)."""
        confidence = torch.sigmoid(functional.linear(x, self.direction, self.level))[:, :, None]
        logits = functional.linear(x, self.weight, self.bias)[:, None]
        return aligned(logits, confidence, self.scale, self.shift).flatten(1)

    def logits(self, features: FloatArray) -> FloatArray:
        """Logits of NumPy features."""
        with torch.no_grad():
            return self(torch.from_numpy(features)).numpy()  # type: ignore[no-any-return]


def disalign(data: FitData) -> Fitted:
    """Train the alignment with class weights n^-1.2 (Zhang et al. 2021, "Distribution alignment").

    Each sample mixes two heads by its own confidence, so the result is not a linear head.
    """
    model = data.once(("disalign",), partial(_trained, data))
    found = []
    for place, rate in enumerate(RATES):
        one = DisAlign(data)
        own = {name: values[place : place + 1] for name, values in model.state_dict().items()}
        one.load_state_dict(own)
        if all(bool(torch.isfinite(p).all()) for p in one.parameters()):
            found.append(Fitted("disalign", one.logits, {"lr": rate}, data.validate(one.logits)))
    return max(found, key=lambda one: np.nan_to_num(one.val["overall"] or 0.0))


def _trained(data: FitData) -> DisAlign:
    """The alignments with all learning rates, side by side."""
    weights = class_weights(torch.from_numpy(data.counts).float())
    model = DisAlign(data, len(RATES))
    loss = side_by_side(partial(functional.cross_entropy, weight=weights), len(RATES))
    sgd(list(model.parameters()), lambda x, y: loss(model(x), y), data, RECIPE, RATES)
    return model
