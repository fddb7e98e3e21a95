"""From images to an output: the network that makes direct features, and a head on them."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from alphafix.oltr.models.backbones import Backbone
from alphafix.oltr.models.heads import Head, Output


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


class LongTailModel(nn.Module):
    """Images to an output."""

    def __init__(self, network: Network, head: Head) -> None:
        super().__init__()
        self.network = network
        self.head = head

    def forward(self, images: Tensor) -> Output:
        """Map B x channels x H x W images to an output."""
        output: Output = self.head(self.network(images))
        return output
