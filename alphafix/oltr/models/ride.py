"""RIDE: several experts that share the early stages of a backbone.

Wang et al. 2021, "Long-tailed recognition by routing diverse distribution-aware experts",
section 3.1. The experts here keep the backbone's channels; the authors' have a quarter fewer.
Shapes: B samples, E experts, D feature width of one, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from alphafix.errors import InputError, option
from alphafix.oltr.models.backbones import Backbone, build_backbone
from alphafix.oltr.models.heads import CosineClassifier, Head, LinearForm, Output
from alphafix.oltr.models.network import Network
from alphafix.rivals.losses import SCALE

# The stages of a ResNet that each expert has by itself, the last two, as in RIDE.
OWN_STAGES = 2


class RideNetwork(Network):
    """Pooled maps of E branches on one trunk, side by side: B x (E·D).

    Args:
        backbones: E backbones of the same kind; the first one's early stages are the trunk.

    Attributes:
        backbone: The trunk.
        branches: The late stages of each expert.
    """

    def __init__(self, backbones: list[Backbone]) -> None:
        parts = [split_body(backbone.body) for backbone in backbones]
        first = backbones[0]
        trunk = _trunk(parts[0][0], first.input_channels)
        super().__init__(trunk)
        self.branches = nn.ModuleList(late for _, late in parts)
        self.width = len(backbones) * first.channels

    def forward(self, images: Tensor) -> Tensor:
        """Map B x channels x H x W images to B x (E·D) direct features."""
        shared = self.backbone(images)
        return torch.cat([self.expert(i, shared) for i in range(len(self.branches))], dim=1)

    def expert(self, index: int, shared: Tensor) -> Tensor:
        """Direct features of one expert, B x D, from the trunk's map."""
        pooled: Tensor = self.branches[index](shared).mean((2, 3))
        return pooled


class RideHead(Head):
    """The mean of E cosine classifiers, each on its own part of the features."""

    def __init__(self, width: int, classes: int, experts: int, scale: float = SCALE) -> None:
        super().__init__()
        self.experts = nn.ModuleList(
            CosineClassifier(width, classes, scale) for _ in range(experts)
        )

    @property
    def classifiers(self) -> list[CosineClassifier]:
        """The E classifiers, as what they are."""
        return [one for one in self.experts if isinstance(one, CosineClassifier)]

    def forward(self, direct: Tensor) -> Output:
        """Map B x (E·D) direct features to an output; its features are E times of unit length."""
        parts = [functional.normalize(part, dim=1) for part in direct.chunk(len(self.experts), 1)]
        pairs = zip(self.experts, parts, strict=True)
        logits = torch.stack([classifier(part) for classifier, part in pairs])
        return Output(
            logits=logits.mean(dim=0),
            direct=direct,
            features=torch.cat(parts, dim=1),
            expert_logits=logits,
        )

    def linear(self) -> LinearForm:
        """Weight C x (E·D), no bias: the experts' rows, divided by E, side by side."""
        rows = [one.folded() for one in self.classifiers]
        return torch.cat(rows, dim=1) / len(rows), None


def build_ride(name: str, input_channels: int, experts: int) -> RideNetwork:
    """The network of RIDE from a backbone's name.

    Raises:
        InputError: If there are no experts, or the backbone cannot be split.
    """
    if experts < 1:
        raise InputError("RIDE needs experts", got=experts, expected="1 or more, 2 to be of use")
    made = [build_backbone(name, input_channels=input_channels) for _ in range(experts)]
    return RideNetwork(made)


def _trunk(early: nn.Sequential, input_channels: int) -> Backbone:
    with torch.no_grad():
        # In evaluation mode, so that running it leaves no trace in normalisation layers.
        channels = early.eval()(torch.zeros(1, input_channels, 32, 32)).shape[1]
    return Backbone(early.train(), channels, input_channels)


def split_body(body: nn.Module) -> tuple[nn.Sequential, nn.Sequential]:
    """The stages that experts share, and the `OWN_STAGES` that each has.

    Args:
        body: That of a `Backbone`: a sequence of modules, or a ResNet of timm.

    Raises:
        InputError: If it is neither.
    """
    from timm.models.resnet import ResNet

    model = getattr(body, "model", body)  # timm's models are wrapped
    if isinstance(model, ResNet):
        stages = [model.layer1, model.layer2, model.layer3, model.layer4]
        steps = [model.conv1, model.bn1, model.act1, model.maxpool, *stages]
    elif isinstance(model, nn.Sequential):
        steps = list(model)
    else:
        raise InputError(
            "RIDE cannot split this backbone into shared and own stages",
            got=type(model).__name__,
            expected='"small", "resnet10", "resnet32" or a ResNet of timm',
            todo=f"choose another {option('backbone')}",
        )
    return nn.Sequential(*steps[:-OWN_STAGES]), nn.Sequential(*steps[-OWN_STAGES:])
