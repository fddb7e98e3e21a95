"""A trained model as it ships: the network up to the features, and a plain linear head.

Cosine classifiers are folded into plain rows, so that any tool that corrects a linear layer can
correct them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from alphafix.oltr.models.heads import CosineClassifier, LinearForm, LinearHead
from alphafix.oltr.models.network import LongTailModel


class ExportedModel(nn.Module):
    """A model that ends in one linear layer.

    Args:
        model: Its own last operation is taken out of it.
        weight: Rows of the head, C x D.
        bias: C, or None.

    Attributes:
        body: Maps images to an `Output` whose features enter the head.
        head: The linear head.
    """

    def __init__(self, model: LongTailModel, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.body = without_classifier(model)
        classes, width = weight.shape
        self.head = nn.Linear(width, classes, bias=bias is not None)
        with torch.no_grad():
            self.head.weight.copy_(weight)
            if bias is not None:
                self.head.bias.copy_(bias)

    def features(self, images: Tensor) -> Tensor:
        """Map B images to B x D features."""
        features: Tensor = self.body(images).features
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Map B images to B x C logits."""
        logits: Tensor = self.head(self.features(images))
        return logits


def export(model: LongTailModel, linear: LinearForm | None = None) -> ExportedModel:
    """Export a trained model, which is changed by it, with its own head or ``linear``."""
    with torch.no_grad():
        weight, bias = model.head.linear() if linear is None else linear
    return ExportedModel(model.cpu(), weight.detach().cpu(), None if bias is None else bias.cpu())


def without_classifier(model: LongTailModel) -> LongTailModel:
    """Take the last linear operation out of a model; its logits mean nothing afterwards."""
    for module in list(model.head.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, CosineClassifier) or isinstance(module, LinearHead):
                setattr(module, name, nn.Identity())
    return model
