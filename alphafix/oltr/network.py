"""From images to direct features: backbone, attention, pooling and a last layer."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from alphafix.oltr.backbones import Backbone


class Network(nn.Module):
    """Direct features: relu(W · mean over positions of attention(backbone(x)) + b).

    Args:
        backbone: Maps images to B x C' x h x w.
        attention: Maps such a map to one of the same shape; None for none.
        width: Features of the last layer (the official code's ``fc_add``); None leaves the
            layer out, and the features are the pooled map.

    Attributes:
        width: D.
    """

    def __init__(
        self, backbone: Backbone, attention: nn.Module | None = None, width: int | None = None
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.attention = attention
        self.fc_add = None if width is None else nn.Linear(backbone.channels, width)
        self.width = backbone.channels if width is None else width

    def forward(self, images: Tensor) -> Tensor:
        """Map B x channels x H x W images to B x D direct features."""
        features = self.backbone(images)
        if self.attention is not None:
            features = self.attention(features)
        pooled: Tensor = features.mean((2, 3))
        return pooled if self.fc_add is None else functional.relu(self.fc_add(pooled))
