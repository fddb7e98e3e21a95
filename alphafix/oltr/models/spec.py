"""What a model is built for, and the two readings of OLTR. This module loads no torch.

The readings are what the paper says, and what the authors' later code does. Only the latter is
known to reach the published figures, so it is the default.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from alphafix.values.arrays import IntArray


@dataclass(frozen=True)
class Preset:
    """One reading of the method.

    Attributes:
        name: "paper" or "official".
        squash: Length n of a meta-embedding after squashing: "quadratic" n²/(1 + n²) (Eq. 6)
            or "linear" n/(1 + n).
        cosine_scale: Factor on the cosine classifier's logits.
        reachability: r in r/γ, the factor on the meta-embedding (Eq. 2 has r = 1).
        hallucinator_softmax: Whether the memory's coefficients are made a distribution.
        hallucinator_from_stage_one: Whether the hallucinator starts as the classifier of the
            first stage.
        loss: "margin" is Eq. 9, "attract-repel" the official loss (see
            `alphafix.oltr.losses.centroids`).
        loss_on: Whether the centroid loss sees "meta" embeddings or "direct" features.
        loss_weight: Factor λ on the centroid loss (Eq. 7).
        margin: m of Eq. 9, or of the repelling part of the official loss.
        repulsion: Factor on the repelling part of the official loss.
    """

    name: str
    squash: Literal["quadratic", "linear"]
    cosine_scale: float
    reachability: float
    hallucinator_softmax: bool
    hallucinator_from_stage_one: bool
    loss: Literal["margin", "attract-repel"]
    loss_on: Literal["meta", "direct"]
    loss_weight: float
    margin: float
    repulsion: float = 0.0


PAPER = Preset(
    name="paper",
    squash="quadratic",
    cosine_scale=1.0,
    reachability=1.0,
    hallucinator_softmax=False,
    hallucinator_from_stage_one=False,
    loss="margin",
    loss_on="meta",
    loss_weight=0.1,
    margin=5.0,
)

OFFICIAL = Preset(
    name="official",
    squash="linear",
    cosine_scale=16.0,
    reachability=10.0,
    hallucinator_softmax=True,
    hallucinator_from_stage_one=True,
    loss="attract-repel",
    loss_on="direct",
    loss_weight=0.01,
    margin=10.0,
    repulsion=0.01,
)

PRESETS = {preset.name: preset for preset in (PAPER, OFFICIAL)}


@dataclass(frozen=True)
class Ablations:
    """Which parts are in (OLTR, Figure 5); all by default.

    Attributes:
        memory: The memory feature; without it the meta-embedding is the direct feature, scaled.
        selector: The concept selector; without it e = 1.
        reachability: The factor r/γ; without it 1.
        attention: Modulated attention on the last feature map.
        attention_map: What the spatial attention weighs: the "self"-attention map, or the
            "plain" feature map (Figure 5 c).
    """

    memory: bool = True
    selector: bool = True
    reachability: bool = True
    attention: bool = True
    attention_map: Literal["self", "plain"] = "self"


@dataclass(frozen=True)
class ModelSpec:
    """What a model is built for.

    Attributes:
        backbone: Name for `alphafix.oltr.models.backbones.build_backbone`.
        counts: Training samples of each class, int64 of shape C.
        input_channels: 3, or 1 for grey images.
        size: Side of the images that the model gets; attention is made for the map of it.
        width: Feature width D of OLTR's second stage (fc_add), or None for the backbone's
            channels without that layer. Where it differs from the channels, the first stage
            has that layer too, since the hallucinator starts from its classifier.
        preset: A name in `PRESETS`.
        ablations: Which parts of OLTR are in.
        experts: Experts E of RIDE.
        diversity: RIDE's factor on the diversity of its experts.
        spread: See `alphafix.oltr.losses.diversity.temperatures`.
    """

    backbone: str
    counts: IntArray
    input_channels: int = 3
    size: int = 224
    width: int | None = None
    preset: str = "official"
    ablations: Ablations = field(default_factory=Ablations)
    experts: int = 3
    diversity: float = 0.2
    spread: float = 0.05

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.counts)
