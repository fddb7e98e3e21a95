"""A whole model: a network that makes direct features, and a head on them."""

from __future__ import annotations

from torch import Tensor, nn

from alphafix.oltr.heads import Head
from alphafix.oltr.network import Network
from alphafix.oltr.output import Output


class LongTailModel(nn.Module):
    """Images to an output.

    Args:
        network: Images to B x D.
        head: B x D to an output.
    """

    def __init__(self, network: Network, head: Head) -> None:
        super().__init__()
        self.network = network
        self.head = head

    def forward(self, images: Tensor) -> Output:
        """Map B x channels x H x W images to an output."""
        output: Output = self.head(self.network(images))
        return output
