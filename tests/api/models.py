"""A small image classifier for `alphafix.extract`."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.transforms import ToTensor


def small() -> nn.Module:
    """A linear classifier of 4 x 4 pixels, in two layers."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 8), nn.Linear(8, 3))
    model.transform = ToTensor()
    return model
