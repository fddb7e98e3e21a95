"""Objectives: what training minimises, given a model's output and the labels.

Lifted and range loss act on the direct features and are added to cross-entropy, without which
they would train no head. Every loss is a scalar, of B samples with labels of shape B, int64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from alphafix.errors import InputError
from alphafix.oltr.losses.centroids import margin_loss, official_loss
from alphafix.oltr.losses.diversity import (
    SPREAD,
    TEMPERATURE,
    diversity,
    expert_margin_loss,
    routing_loss,
    temperatures,
)
from alphafix.oltr.losses.pairs import lifted_loss, range_loss
from alphafix.oltr.models.heads import OLTRHead, Output
from alphafix.oltr.models.network import LongTailModel
from alphafix.oltr.models.routing import RoutedRide, Router, needed_later
from alphafix.oltr.models.spec import ModelSpec
from alphafix.rivals.losses import (
    GAMMA,
    class_balanced_weights,
    focal_loss,
    inverse_weights,
    margins,
)

# The official code's optimiser of the centroids, SGD.
CENTROID_SETTINGS = {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4}

# RIDE's deferred re-weighting: epoch 160 of 200 for CIFAR, 80 of 100 for ImageNet-LT.
DEFERRED = 0.8


def cross_entropy(output: Output, labels: Tensor) -> Tensor:
    """Mean cross-entropy of the softmax of the logits."""
    return functional.cross_entropy(output.logits, labels)


def focal(output: Output, labels: Tensor, gamma: float = GAMMA) -> Tensor:
    """-(1 - p_y)^gamma log p_y (Lin et al. 2017)."""
    return focal_loss(output.logits.float(), labels, gamma)


def lifted(output: Output, labels: Tensor, weight: float = 0.1) -> Tensor:
    """Cross-entropy, and the lifted structure loss of the direct features by ``weight``."""
    return cross_entropy(output, labels) + weight * lifted_loss(output.direct, labels)


def ranges(
    output: Output,
    labels: Tensor,
    *,
    margin: float = 10.0,
    alpha: float = 1e-4,
    beta: float = 1e-3,
) -> Tensor:
    """Cross-entropy and the range loss of the direct features (see it for its weights)."""
    loss = range_loss(output.direct, labels, margin=margin, alpha=alpha, beta=beta)
    return cross_entropy(output, labels) + loss


class Objective(nn.Module):
    """What training minimises: a loss of the output alone, unless a subclass needs more.

    Args:
        loss: Output and labels to a scalar.
    """

    def __init__(self, loss: Callable[[Output, Tensor], Tensor] = cross_entropy) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, output: Output, labels: Tensor) -> Tensor:
        """Loss of B samples, a scalar."""
        return self.loss(output, labels)

    def begin_epoch(self, progress: float) -> None:
        """Told the share of the training that is done, 0 to 1, before each epoch."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups, as torch's SGD takes them, of parameters with settings of their own.

        They may be parameters of the model; then leave them out of the model's own groups.
        """
        return []


class CostSensitive(Objective):
    """Cross-entropy with classes weighed by their inverse frequency (OLTR, Table 4 right).

    Args:
        counts: Training samples of each class, int64 of shape C.
    """

    def __init__(self, counts: Tensor) -> None:
        super().__init__()
        self.class_weights: Tensor
        self.register_buffer("class_weights", inverse_weights(counts))

    def forward(self, output: Output, labels: Tensor) -> Tensor:
        """Loss of B samples, a scalar."""
        return functional.cross_entropy(output.logits.float(), labels, self.class_weights)


class OLTRObjective(Objective):
    """Cross-entropy and centroid loss: L = L_CE + λ L_LM (OLTR, Eq. 7).

    "Alternately updated" centroids and embeddings (Section 3.3) are both updated each step, each
    with the other held constant: the head treats centroids as constants, so only the centroid
    loss moves them.
    """

    def __init__(self, head: OLTRHead) -> None:
        super().__init__()
        self.preset = head.preset
        # In a tuple, which torch does not look into: the centroids are the model's parameter,
        # and are saved and counted with it alone.
        self._centroids = (head.centroids,)

    def forward(self, output: Output, labels: Tensor) -> Tensor:
        """Loss of B samples, a scalar.

        Raises:
            InputError: If the output is that of a head without memory.
        """
        (centroids,) = self._centroids
        features = output.direct
        if self.preset.loss_on == "meta":
            no_memory = "the centroid loss sees meta-embeddings, and the model makes none"
            features = _given(output.meta, no_memory, "an OLTR head")
        weight, margin = self.preset.loss_weight, self.preset.margin
        if self.preset.loss == "margin":
            large_margin = weight * margin_loss(features, labels, centroids, margin)
        else:
            large_margin = official_loss(
                features,
                labels,
                centroids,
                weight=weight,
                margin=margin,
                repulsion_weight=self.preset.repulsion,
            )
        return super().forward(output, labels) + large_margin

    def parameter_groups(self) -> list[dict[str, Any]]:
        """One group: the centroids."""
        return [{"params": list(self._centroids), **CENTROID_SETTINGS}]


class Ride(Objective):
    """LDAM of each expert, minus the diversity of the experts (Wang et al. 2021, section 3.2).

    As in the authors' code, classes are re-weighted in the last `DEFERRED` part of the training
    alone: until then LDAM has no class weights, and one temperature for all classes.

    Args:
        counts: Training samples of each class, int64 of shape C.
        weight: Factor on the diversity (0.45 in the authors' configuration for CIFAR, else 0.2).
        spread: See `alphafix.oltr.losses.diversity.temperatures`.
    """

    def __init__(self, counts: Tensor, weight: float = 0.2, spread: float = SPREAD) -> None:
        super().__init__()
        self.weight = weight
        self.reweighted = False
        self.delta: Tensor
        self.temperature: Tensor
        self.class_weights: Tensor
        self.register_buffer("delta", margins(counts.float()))
        self.register_buffer("temperature", temperatures(counts, spread=spread))
        self.register_buffer("class_weights", class_balanced_weights(counts))

    def begin_epoch(self, progress: float) -> None:
        """Re-weight from `DEFERRED` of the training on (Cao et al. 2019, section 3.3)."""
        self.reweighted = progress >= DEFERRED

    def forward(self, output: Output, labels: Tensor) -> Tensor:
        """Loss of B samples, a scalar.

        Raises:
            InputError: If the output is not that of experts.
        """
        logits = _of_experts(output)
        even = torch.full_like(self.temperature, TEMPERATURE)
        spread = diversity(logits, self.temperature if self.reweighted else even)
        weights = self.class_weights if self.reweighted else None
        return expert_margin_loss(logits, labels, self.delta, weights) - self.weight * spread


class Routing(Objective):
    """Whether another expert is needed, learned by the router (Wang et al. 2021, section 3.3).

    Args:
        router: It learns.
        positive_weight: Weight of samples that need one (100 in the paper and its configurations).
        alone: See `alphafix.oltr.models.routing.needed_later`.
    """

    def __init__(
        self, router: Router, positive_weight: float = 100.0, *, alone: bool = False
    ) -> None:
        super().__init__()
        self.positive_weight, self.alone = positive_weight, alone
        # In a tuple, which torch does not look into: the router is a part of the model.
        self._router = (router,)

    def forward(self, output: Output, labels: Tensor) -> Tensor:
        """Loss of B samples, a scalar.

        Raises:
            InputError: If the output is not that of experts.
        """
        logits = _of_experts(output).detach()
        (router,) = self._router
        features = output.features.detach().chunk(len(logits), dim=1)
        so_far = logits.cumsum(dim=0)
        scores = [router(k, features[k], so_far[k] / (k + 1)) for k in range(len(router))]
        needed = needed_later(logits, labels, alone=self.alone)
        return routing_loss(torch.stack(scores), needed, self.positive_weight)


LOSSES: dict[str, Callable[[Output, Tensor], Tensor]] = {
    "cross-entropy": cross_entropy,
    "focal": focal,
    "lifted": lifted,
    "range": ranges,
}
"""The losses that need an output and nothing else, by the names that methods give them."""


def build_objective(name: str, model: LongTailModel, spec: ModelSpec) -> Objective:
    """Build the objective of that name for a model that `alphafix.oltr.models.building` made."""
    if isinstance(model, RoutedRide):
        return Routing(model.router, alone=spec.preset == "paper")
    if name == "oltr" and isinstance(model.head, OLTRHead):
        return OLTRObjective(model.head)
    if name == "cost-sensitive":
        return CostSensitive(torch.from_numpy(spec.counts))
    if name == "ride":
        return Ride(torch.from_numpy(spec.counts), spec.diversity, spec.spread)
    return Objective(LOSSES[name])


def _of_experts(output: Output) -> Tensor:
    one = "this loss compares experts, and the model has none"
    return _given(output.expert_logits, one, "a RIDE model").float()


def _given(part: Tensor | None, missing: str, expected: str) -> Tensor:
    """A part of the output that the objective needs."""
    if part is None:
        todo = "give the objective the output of its own model"
        raise InputError(missing, expected=expected, todo=todo)
    return part
