"""Unknown scores of a softmax: max-softmax, and ODIN's temperature and input step.

Every unknown score is larger for samples that are more likely of no known class, as
`alphafix.openset.openmax.OpenMax.unknown_scores` is too, so that all of them can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from alphafix.values.arrays import FloatArray, FloatArray64

if TYPE_CHECKING:
    import torch


# "Set to 1000 in all cases" (README of the authors' code, facebookresearch/odin).
TEMPERATURE = 1000.0

# Among the authors' best steps, which are 0 to 0.0048 by network and data set (the same README), in
# units of the pixels' range 0..1; it has to be chosen on open samples (OLTR, Table 2, †).
STEP = 0.002


@dataclass(frozen=True)
class OdinGrid:
    """Temperatures and steps to evaluate ODIN with; of several the best pair is chosen.

    The README of the authors' code has T = 1000 throughout and names the best step of each network
    and data set: 0, 0.0005, 0.0006, 0.0008, 0.0011, 0.0014, 0.002, 0.0028 or 0.0048.
    """

    temperatures: tuple[float, ...] = (TEMPERATURE,)
    steps: tuple[float, ...] = (STEP,)

    @property
    def several(self) -> bool:
        """Whether there is a choice."""
        return len(self.temperatures) * len(self.steps) > 1


def softmax_scores(logits: FloatArray, *, temperature: float = 1.0) -> FloatArray64:
    """1 - the largest probability of softmax(N x C logits / T), float64 of shape N.

    T = 1 is max-softmax (Hendrycks and Gimpel 2017); T = `TEMPERATURE` is ODIN without its
    input step, which needs nothing but stored logits.
    """
    # With T = 1000 scores differ in the sixth digit, where float32 ends.
    scaled = logits.astype(np.float64) / temperature
    largest = scaled.max(axis=1, keepdims=True)
    scores: FloatArray64 = 1 - 1 / np.exp(scaled - largest).sum(axis=1)
    return scores


def odin_images(
    logits_of: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    *,
    temperature: float = TEMPERATURE,
    step: float = STEP,
    std: Sequence[float] | None = None,
) -> torch.Tensor:
    """Move images a step toward what the model takes them for (Liang et al. 2018).

    x' = x - step · sign(-∇ log max softmax(f(x) / T)): known samples have larger gradients
    and gain more confidence by it than unknown ones.

    Args:
        logits_of: The model, in evaluation mode: B images -> B x C logits.
        images: Its input, floating point of shape B x ....
        temperature: T.
        step: Length of the step, in units of pixels from 0 to 1.
        std: What the channels of normalised images were divided by, so that the step is of
            the same length in pixels; 1 by default.
    """
    import torch

    with torch.enable_grad():
        moving = images.detach().clone().requires_grad_(True)
        log_softmax = torch.log_softmax(logits_of(moving).double() / temperature, dim=1)
        (gradient,) = torch.autograd.grad(log_softmax.max(dim=1).values.sum(), moving)
    direction = gradient.sign()
    if std is not None:
        shape = [1, len(std)] + [1] * (images.ndim - 2)
        direction = direction / images.new_tensor(std).view(shape)
    return images.detach() + step * direction


def odin_scores(
    logits_of: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    *,
    temperature: float = TEMPERATURE,
    step: float = STEP,
    std: Sequence[float] | None = None,
) -> FloatArray64:
    """ODIN's unknown scores of B images, float64 of shape B (see `odin_images`)."""
    import torch

    moved = odin_images(logits_of, images, temperature=temperature, step=step, std=std)
    with torch.no_grad():
        logits = logits_of(moved)
    return softmax_scores(logits.float().cpu().numpy(), temperature=temperature)
