"""DisAlign: logits aligned as far as the sample asks for."""

from __future__ import annotations

from copy import copy
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from alphafix.rivals.data import FitData, Fitted
from alphafix.rivals.slopes import Slope, weighted_cross_entropy
from alphafix.rivals.training import RATES, HeadTraining, base_parameters, sgd
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


class DisAlign:
    """The base head with its alignment; only s, t and the confidence v.x + u are trained.

    Initial values are the authors': s = 1, t = 0, v = 0.1, and PyTorch's default for u.

    Args:
        data: The base head, and the seed.
        copies: R alignments of it side by side.

    Attributes:
        scale: s, R x C.
        shift: t, R x C.
        direction: v, R x D.
        level: u, R.
    """

    def __init__(self, data: FitData, copies: int = 1) -> None:
        self.weight, self.bias = base_parameters(data)
        classes, width = self.weight.shape
        bound, generator = width**-0.5, torch.Generator().manual_seed(data.seed)
        level = torch.empty(()).uniform_(-bound, bound, generator=generator)
        self.scale, self.shift = torch.ones(copies, classes), torch.zeros(copies, classes)
        self.direction, self.level = torch.full((copies, width), 0.1), level.repeat(copies)

    @property
    def parameters(self) -> list[Tensor]:
        """What is trained; the first axis tells the alignments apart."""
        return [self.scale, self.shift, self.direction, self.level]

    def only(self, place: int) -> DisAlign:
        """One of the alignments alone."""
        one = copy(self)
        one.scale, one.shift, one.direction, one.level = (
            values[place : place + 1] for values in self.parameters
        )
        return one

    def __call__(self, x: Tensor) -> Tensor:
        """Logits, n x R x C."""
        return aligned(self._plain(x), self._confidence(x), self.scale, self.shift)

    def _plain(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight, self.bias)[:, None]

    def _confidence(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.direction, self.level).sigmoid()[:, :, None]

    def gradients(self, x: Tensor, labels: Tensor, slope: Slope) -> list[Tensor]:
        """Of a loss by each of the parameters, from its gradient by logits.

        With h that gradient, g the confidence and z the base head's logits: the sum over samples
        of g h z for s, of g h for t, and of q x and q for v and u, where q is g (1 - g) times the
        sum over classes of h (s z + t).
        """
        plain, confidence = self._plain(x), self._confidence(x)
        moved = torch.addcmul(self.shift, self.scale, plain)
        slopes = slope(torch.addcmul(plain, confidence, moved), labels)
        pulls = moved.mul_(slopes).sum(dim=2) * (confidence * (1 - confidence))[:, :, 0]
        of_shift = slopes.mul_(confidence).sum(dim=0)
        of_scale = slopes.mul_(plain).sum(dim=0)
        return [of_scale, of_shift, pulls.T @ x, pulls.sum(dim=0)]

    def logits(self, features: FloatArray) -> FloatArray:
        """Logits of NumPy features by the one alignment, n x C."""
        found: FloatArray = self(torch.from_numpy(features))[:, 0].numpy()
        return found


def disalign(data: FitData) -> Fitted:
    """Train the alignment with class weights n^-1.2 (Zhang et al. 2021, "Distribution alignment").

    Each sample mixes two heads by its own confidence, so the result is not a linear head.
    """
    model = data.once(("disalign",), partial(_trained, data))
    found = []
    for place, rate in enumerate(RATES):
        one = model.only(place)
        if all(bool(torch.isfinite(p).all()) for p in one.parameters):
            found.append(Fitted("disalign", one.logits, {"lr": rate}, data.validate(one.logits)))
    return max(found, key=lambda one: np.nan_to_num(one.val["overall"] or 0.0))


def _trained(data: FitData) -> DisAlign:
    """The alignments with all learning rates, side by side."""
    weights = class_weights(torch.from_numpy(data.counts).float())
    model, slope = DisAlign(data, len(RATES)), partial(weighted_cross_entropy, weights=weights)
    sgd(model.parameters, partial(model.gradients, slope=slope), data, RECIPE, RATES)
    return model
