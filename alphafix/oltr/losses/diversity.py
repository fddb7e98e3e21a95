"""RIDE's losses: a margin for each expert, a reward for experts that differ, and routing.

Wang et al. 2021, "Long-tailed recognition by routing diverse distribution-aware experts".
Shapes: expert logits (30 times cosines) are E x B x C, labels int64 of shape B.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from alphafix.rivals.losses import SCALE, ldam_loss

TEMPERATURE = 1.0
SPREAD = 0.05


def temperatures(counts: Tensor, base: float = TEMPERATURE, spread: float = SPREAD) -> Tensor:
    """The temperature T_c of each class, shape C (Wang et al. 2021, section 3.2).

    With psi_c = C n_c / sum n, the weight beta_c = spread * psi_c + 1 - spread, and T_c =
    base * beta_c / max beta: classes with few samples have the lower temperature, so that the
    experts are pushed apart more on them.
    """
    share = counts.double() * len(counts) / counts.sum()
    weights = spread * share + 1 - spread
    return (base * weights / weights.max()).float()


def diversity(expert_logits: Tensor, temperature: Tensor) -> Tensor:
    """Sum over experts of mean(T)^2 KL(p || p_e), p the softmax of the mean logits, T of shape C.

    Wang et al. 2021, section 3.2, in the form of their code: against the mean of all experts, which
    is held fixed, instead of against each other one. The batch's mean.
    """
    mean = (expert_logits.detach().mean(dim=0) / temperature).log_softmax(dim=1)
    each = (expert_logits / temperature).log_softmax(dim=2)
    divergence = (mean.exp() * (mean - each)).sum(dim=(0, 2)).mean()
    return temperature.mean().square() * divergence


def expert_margin_loss(
    expert_logits: Tensor, labels: Tensor, delta: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Sum over experts of LDAM (Cao et al. 2019, Eq. 12) with margins and weights of shape C."""
    losses = [ldam_loss(logits / SCALE, labels, delta, weights) for logits in expert_logits]
    return torch.stack(losses).sum()


def routing_loss(scores: Tensor, needed: Tensor, positive_weight: float) -> Tensor:
    """Binary cross-entropy of "the next expert is needed" (Wang et al. 2021, section 3.3).

    Args:
        scores: Logits of the router's decisions, any shape.
        needed: 1 where the experts so far are wrong and a later one is right, else 0.
        positive_weight: Weight of the samples that need one.
    """
    weight = scores.new_tensor(positive_weight)
    return functional.binary_cross_entropy_with_logits(scores, needed, pos_weight=weight)
