"""Objectives: what training minimises, given a model's output and the labels.

Lifted and range loss act on the direct features and are added to cross-entropy, without which
they would train no head.
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
    diversity,
    expert_margin_loss,
    routing_loss,
    temperatures,
)
from alphafix.oltr.losses.lifted import lifted_loss
from alphafix.oltr.losses.range_loss import range_loss
from alphafix.oltr.models.heads import OLTRHead, Output
from alphafix.oltr.models.network import LongTailModel
from alphafix.oltr.models.routing import RoutedRide, needed_later
from alphafix.oltr.models.spec import ModelSpec, Preset
from alphafix.rivals.losses import GAMMA, focal_loss, margins

# The official code's optimiser of the centroids, SGD.
CENTROID_RATE = 0.01
CENTROID_MOMENTUM = 0.9
CENTROID_DECAY = 5e-4


class Objective(nn.Module):
    """What all objectives have in common."""

    def forward(self, output: Output, labels: Tensor) -> Tensor:
        """Loss of B samples (labels int64 of shape B), a scalar."""
        raise NotImplementedError

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups, as torch's SGD takes them, of parameters with settings of their own.

        They may be parameters of the model; then leave them out of the model's own groups.
        """
        return []


class CrossEntropy(Objective):
    """Mean cross-entropy of the softmax of the logits."""

    def forward(self, output: Output, labels: Tensor) -> Tensor:
        """Loss of B samples (labels int64 of shape B), a scalar."""
        return functional.cross_entropy(output.logits, labels)


class OLTRObjective(Objective):
    """Cross-entropy and centroid loss: L = L_CE + λ L_LM (OLTR, Eq. 7).

    "Alternately updated" centroids and embeddings (Section 3.3) are both updated each step, each
    with the other held constant: the head treats centroids as constants, so only the centroid
    loss moves them.

    Args:
        head: Holds the centroids and the preset.
        rate: Learning rate of the centroids.
        momentum: Momentum of the centroids.
        decay: Weight decay of the centroids.
    """

    def __init__(
        self,
        head: OLTRHead,
        *,
        rate: float = CENTROID_RATE,
        momentum: float = CENTROID_MOMENTUM,
        decay: float = CENTROID_DECAY,
    ) -> None:
        super().__init__()
        self.preset = head.preset
        self._settings = {"lr": rate, "momentum": momentum, "weight_decay": decay}
        # In a tuple, which torch does not look into: the centroids are the model's parameter,
        # and are saved and counted with it alone.
        self._centroids = (head.centroids,)

    def forward(self, output: Output, labels: Tensor) -> Tensor:
        """Loss of B samples (labels int64 of shape B), a scalar.

        Raises:
            InputError: If the output is that of a head without memory.
        """
        (centroids,) = self._centroids
        features = _seen(output, self.preset)
        if self.preset.loss == "margin":
            large_margin = self.preset.loss_weight * margin_loss(
                features, labels, centroids, self.preset.margin
            )
        else:
            large_margin = official_loss(
                features,
                labels,
                centroids,
                weight=self.preset.loss_weight,
                margin=self.preset.margin,
                repulsion_weight=self.preset.repulsion,
            )
        return functional.cross_entropy(output.logits, labels) + large_margin

    def parameter_groups(self) -> list[dict[str, Any]]:
        """One group: the centroids."""
        return [{"params": list(self._centroids), **self._settings}]


class Focal(Objective):
    """-(1 - p_y)^gamma log p_y (Lin et al. 2017, Eq. 4).

    Args:
        gamma: 0 is cross-entropy.
    """

    def __init__(self, gamma: float = GAMMA) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, output: Output, labels: Tensor) -> Tensor:
        """Loss of B samples (labels int64 of shape B), a scalar."""
        return focal_loss(output.logits.float(), labels, self.gamma)


class Lifted(Objective):
    """Cross-entropy and the lifted structure loss of the direct features.

    Args:
        weight: Factor on the latter.
    """

    def __init__(self, weight: float = 0.1) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, output: Output, labels: Tensor) -> Tensor:
        """Loss of B samples (labels int64 of shape B), a scalar."""
        lifted = lifted_loss(output.direct, labels)
        return functional.cross_entropy(output.logits, labels) + self.weight * lifted


class Range(Objective):
    """Cross-entropy and the range loss of the direct features.

    Args:
        margin: Squared distance that the centres of classes should have.
        alpha: Weight of the ranges within classes.
        beta: Weight of the distance of the two nearest centres.
    """

    def __init__(self, margin: float = 10.0, alpha: float = 1e-4, beta: float = 1e-3) -> None:
        super().__init__()
        self.weights = {"margin": margin, "alpha": alpha, "beta": beta}

    def forward(self, output: Output, labels: Tensor) -> Tensor:
        """Loss of B samples (labels int64 of shape B), a scalar."""
        ranges = range_loss(output.direct, labels, **self.weights)
        return functional.cross_entropy(output.logits, labels) + ranges


class Ride(Objective):
    """LDAM of each expert, minus the diversity of the experts (Wang et al. 2021, section 3.2).

    Args:
        counts: Training samples of each class, int64 of shape C.
        weight: Factor on the diversity (0.2 in the authors' configurations).
    """

    def __init__(self, counts: Tensor, weight: float = 0.2) -> None:
        super().__init__()
        self.weight = weight
        self.delta: Tensor
        self.temperature: Tensor
        self.register_buffer("delta", margins(counts.float()))
        self.register_buffer("temperature", temperatures(counts))

    def forward(self, output: Output, labels: Tensor) -> Tensor:
        """Loss of B samples (labels int64 of shape B), a scalar.

        Raises:
            InputError: If the output is not that of experts.
        """
        logits = _of_experts(output)
        spread = diversity(logits, self.temperature)
        return expert_margin_loss(logits, labels, self.delta) - self.weight * spread


class Routing(Objective):
    """Whether another expert is needed, learned by the router (Wang et al. 2021, section 3.3).

    Args:
        model: Whose router learns.
        positive_weight: Weight of samples that need one (100 in the paper).
    """

    def __init__(self, model: RoutedRide, positive_weight: float = 100.0) -> None:
        super().__init__()
        self.positive_weight = positive_weight
        # In a tuple, which torch does not look into: the router is a part of the model.
        self._router = (model.router,)

    def forward(self, output: Output, labels: Tensor) -> Tensor:
        """Loss of B samples (labels int64 of shape B), a scalar.

        Raises:
            InputError: If the output is not that of experts.
        """
        logits = _of_experts(output).detach()
        (router,) = self._router
        features = output.features.detach().chunk(len(logits), dim=1)
        so_far = logits.cumsum(dim=0)
        scores = [decide(features[k], so_far[k] / (k + 1)) for k, decide in enumerate(router)]
        return routing_loss(torch.stack(scores), needed_later(logits, labels), self.positive_weight)


def build_objective(name: str, model: LongTailModel, spec: ModelSpec) -> Objective:
    """Build the loss of that name for a model that `alphafix.oltr.models.building` made."""
    counts = torch.from_numpy(spec.counts)
    makers: dict[str, Callable[[], Objective]] = {
        "cross-entropy": CrossEntropy,
        "focal": Focal,
        "lifted": Lifted,
        "range": Range,
        "ride": lambda: Ride(counts),
    }
    if isinstance(model, RoutedRide):
        return Routing(model)
    if name == "oltr" and isinstance(model.head, OLTRHead):
        return OLTRObjective(model.head)
    return makers[name]()


def _seen(output: Output, preset: Preset) -> Tensor:
    if preset.loss_on == "direct":
        return output.direct
    if output.meta is None:
        raise InputError(
            "the centroid loss sees meta-embeddings, and the model makes none",
            expected="an OLTR head",
            todo="give the objective the output of its own model",
        )
    return output.meta


def _of_experts(output: Output) -> Tensor:
    if output.expert_logits is None:
        raise InputError(
            "this loss compares experts, and the model has none",
            expected="a RIDE model",
            todo="give the objective the output of its own model",
        )
    return output.expert_logits.float()
