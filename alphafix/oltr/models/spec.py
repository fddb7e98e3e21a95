"""What a model is built for. This module loads no torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from alphafix.oltr.models.presets import Ablations
from alphafix.values.arrays import IntArray


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
        preset: Name of a preset of `alphafix.oltr.models.presets`.
        ablations: Which parts of OLTR are in.
        experts: Experts E of RIDE.
    """

    backbone: str
    counts: IntArray
    input_channels: int = 3
    size: int = 224
    width: int | None = None
    preset: str = "official"
    ablations: Ablations = field(default_factory=Ablations)
    experts: int = 3

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.counts)
