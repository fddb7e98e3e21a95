"""The visual memory: hallucinator, concept selector and reachability (OLTR, Eq. 1-4).

Shapes: B samples, D feature width, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from alphafix.oltr.models.spec import Ablations, Preset

# Least distance that reachability divides by: far below what training meets (features of
# ResNets have lengths of 10 and more), and its inverse squared is finite in float32.
LEAST_DISTANCE = 1e-6


def nearest_distance(features: Tensor, centroids: Tensor) -> Tensor:
    """Distance to the nearest centroid: γ = min_i ‖v − c_i‖ (OLTR, Eq. 3).

    The nearest one is found with ‖v − c‖² = ‖v‖² − 2 v·c + ‖c‖², which takes one B x C array;
    the distance is then taken again from v − c, since that sum of large numbers is inexact
    where γ is small. Both in float32 at least, under automatic mixed precision too. The
    gradient at γ = 0 is 0.

    Args:
        features: v, float of shape B x D.
        centroids: c, float of shape C x D.

    Returns:
        float of shape B.
    """
    with torch.autocast(features.device.type, enabled=False):
        exact = torch.promote_types(features.dtype, torch.float32)
        features, centroids = features.to(exact), centroids.to(exact)
        with torch.no_grad():
            # ‖v‖² is the same for all centroids of a sample.
            ranks = torch.addmm(centroids.square().sum(1), features, centroids.T, alpha=-2)
            nearest = ranks.argmin(1)
        distance: Tensor = torch.linalg.vector_norm(features - centroids[nearest], dim=1)
    return distance


def reachability(features: Tensor, centroids: Tensor, factor: float) -> Tensor:
    """Factor on the meta-embedding: r/γ (OLTR, Eq. 2 with r = 1).

    Args:
        features: v, float of shape B x D.
        centroids: C x D.
        factor: r; a feature that is a centroid gets r/1e-6, in the result of shape B x 1.
    """
    gamma = nearest_distance(features, centroids)
    return factor / gamma.clamp_min(LEAST_DISTANCE).unsqueeze(1)


class Memory(nn.Module):
    """Meta-embedding: v_meta = r/γ · (v + e ⊗ v_memory), v_memory = Σ o_i c_i (OLTR, Eq. 1, 2).

    The coefficients o = T_hal(v) are made a distribution over the classes where the preset says
    so (Eq. 1), and the concept selector is e = tanh(T_sel(v)) (Eq. 4). The centroids are given
    from outside and are constants here: neither preset lets a gradient of the classification
    reach them.
    """

    def __init__(self, width: int, classes: int, preset: Preset, ablations: Ablations) -> None:
        super().__init__()
        self.factor = preset.reachability if ablations.reachability else None
        self.softmax = preset.hallucinator_softmax
        self.hallucinator = nn.Linear(width, classes) if ablations.memory else None
        has_selector = ablations.memory and ablations.selector
        self.selector = nn.Linear(width, width) if has_selector else None

    def forward(self, direct: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor | None]:
        """Embed features.

        Args:
            direct: v, float of shape B x D.
            centroids: C x D.

        Returns:
            v_meta of shape B x D, and the coefficients o of shape B x C (None without memory).
        """
        meta, coefficients = direct, None
        if self.hallucinator is not None:
            coefficients = self.hallucinator(direct)
            if self.softmax:
                coefficients = coefficients.softmax(1)
            memory = coefficients @ centroids
            if self.selector is not None:
                memory = self.selector(direct).tanh() * memory
            meta = direct + memory
        if self.factor is not None:
            meta = meta * reachability(direct, centroids, self.factor)
        return meta, coefficients
