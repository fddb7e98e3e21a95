"""Objectives: what training minimises, given a model's output and the labels."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from alphafix.errors import InputError
from alphafix.oltr.centroids import margin_loss, official_loss
from alphafix.oltr.heads import OLTRHead
from alphafix.oltr.output import Output
from alphafix.oltr.presets import Preset

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
