"""DisAlign: logits aligned as far as the sample asks for."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from alphafix.rivals.data import FitData, Fitted
from alphafix.rivals.training import RATES, HeadTraining, base_parameters, sgd
from alphafix.values.arrays import FloatArray

RECIPE = HeadTraining(epochs=10, batch=256)
POWER = 1.2


def class_weights(counts: Tensor) -> Tensor:
    """n_c^-1.2 / sum of all, times C, so that the mean is 1 (Zhang et al. 2021, Eq. 9)."""
    weights = counts**-POWER
    return weights * (len(weights) / weights.sum())


def aligned(logits: Tensor, confidence: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """(1 + g s) z + g t, g the sample's confidence, n x 1, as in the authors' classifier.

    The paper's form, g (s z + t) + (1 - g) z (Zhang et al. 2021, Eq. 7), is the same with s - 1
    for s; what differs is that s starts at 1 in both, so that this one starts at (1 + g) z.
    """
    return (1 + confidence * scale) * logits + confidence * shift


class DisAlign(torch.nn.Module):
    """The base head with its alignment; only s, t and the confidence v.x + u are trained.

    Initial values are the authors': s = 1, t = 0, v = 0.1, and PyTorch's default for u.
    """

    def __init__(self, data: FitData) -> None:
        super().__init__()
        self.weight, self.bias = (p.detach() for p in base_parameters(data))
        self.scale = torch.nn.Parameter(torch.ones(len(self.bias)))
        self.shift = torch.nn.Parameter(torch.zeros(len(self.bias)))
        self.direction = torch.nn.Parameter(torch.full((data.head.width,), 0.1))
        bound, generator = data.head.width**-0.5, torch.Generator().manual_seed(data.seed)
        self.level = torch.nn.Parameter(
            torch.empty(()).uniform_(-bound, bound, generator=generator)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits, n x C."""
        confidence = torch.sigmoid(x @ self.direction + self.level)[:, None]
        logits = functional.linear(x, self.weight, self.bias)
        return aligned(logits, confidence, self.scale, self.shift)

    def logits(self, features: FloatArray) -> FloatArray:
        """Logits of NumPy features."""
        with torch.no_grad():
            return self(torch.from_numpy(features)).numpy()  # type: ignore[no-any-return]


def disalign(data: FitData) -> Fitted:
    """Train the alignment with class weights n^-1.2 (Zhang et al. 2021, section 3.3).

    Each sample mixes two heads by its own confidence, so the result is not a linear head.
    """
    weights = class_weights(torch.from_numpy(data.counts).float())

    def train(rate: float) -> DisAlign:
        model = DisAlign(data)

        def loss(x: Tensor, y: Tensor) -> Tensor:
            return functional.cross_entropy(model(x), y, weight=weights)

        sgd(list(model.parameters()), loss, data, RECIPE, rate)
        return model

    found = []
    for rate in RATES:
        model = data.once(("disalign", rate), partial(train, rate))
        if all(bool(torch.isfinite(p).all()) for p in model.parameters()):
            val = data.validate(model.logits)
            found.append(Fitted("disalign", model.logits, {"lr": rate}, val))
    return max(found, key=lambda one: np.nan_to_num(one.val["overall"] or 0.0))
