"""Backbones: images to a feature map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from alphafix.errors import InputError

SMALL_WIDTHS = (24, 48, 96)

# ResNet-32 for CIFAR: 3 stages of 5 blocks of 2 convolutions, one before them and the head.
CIFAR_WIDTHS = (16, 32, 64)
CIFAR_BLOCKS = 5


class Backbone(nn.Module):
    """Images to a feature map.

    Args:
        body: Maps images to the map.
        channels: C', the channels of the map.
        input_channels: Channels of the images.
    """

    def __init__(self, body: nn.Module, channels: int, input_channels: int) -> None:
        super().__init__()
        self.body = body
        self.channels = channels
        self.input_channels = input_channels

    def forward(self, images: Tensor) -> Tensor:
        """Map B x channels x H x W images to B x C' x h x w."""
        features: Tensor = self.body(images)
        return features

    @torch.no_grad()
    def map_size(self, height: int, width: int) -> tuple[int, int]:
        """Size h, w of the map of an image, found by running one.

        Raises:
            InputError: If the backbone takes no image of this size.
        """
        training = self.training
        self.eval()
        like = next(self.parameters())
        try:
            features = self(like.new_zeros(1, self.input_channels, height, width))
        except (RuntimeError, AssertionError) as error:  # timm's models check with assert
            raise InputError(
                "the backbone does not take images of this size",
                got=f"{height} x {width}: {str(error).splitlines()[0]}",
                expected="a size that the backbone was made for",
                todo="choose another image size or backbone",
            ) from error
        finally:
            self.train(training)
        return int(features.shape[2]), int(features.shape[3])


def build_backbone(name: str, *, input_channels: int = 3, pretrained: bool = False) -> Backbone:
    """Create a backbone.

    Args:
        name: "resnet10" (as OLTR has it), "resnet32" (for CIFAR's 32 pixels), "small" (for
            16 to 32 pixels) or "timm:NAME".
        input_channels: Channels of the images.
        pretrained: Whether timm is to load the weights that it has for NAME.

    Raises:
        InputError: If there is no such backbone, or none of its weights.
    """
    kind, _, rest = name.partition(":")
    makers: dict[str, Callable[[int], Backbone]] = {
        "resnet10": _resnet10,
        "resnet32": _resnet32,
        "small": _small,
    }
    if kind == "timm" and rest:
        return _timm(rest, input_channels, pretrained)
    if name not in makers or pretrained:
        raise InputError(
            f"there is no backbone {name}" + (" with pretrained weights" if pretrained else ""),
            expected="resnet10, resnet32, small or timm:NAME",
            todo='see `python -c "import timm; print(timm.list_models())"`',
        )
    return makers[name](input_channels)


def _resnet10(input_channels: int) -> Backbone:
    """ResNet with one basic block a stage, initialised as OLTR does."""
    from timm.models.resnet import BasicBlock, ResNet

    # OLTR's residual branches do not start at zero.
    body = ResNet(
        BasicBlock,
        (1, 1, 1, 1),
        num_classes=0,
        in_chans=input_channels,
        global_pool="",
        zero_init_last=False,
    )
    return Backbone(body, int(body.num_features), input_channels)


class _ZeroPadded(nn.Module):
    """The shortcut without parameters: every second pixel, and zeros for the new channels.

    Source: He et al. 2016, section 3.3, option A.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Map B x C' x h x w to B x 2C' x h/2 x w/2 (rounded up)."""
        added = features.shape[1] // 2
        return functional.pad(features[:, :, ::2, ::2], (0, 0, 0, 0, added, added))


def _resnet32(input_channels: int) -> Backbone:
    """ResNet-32 for CIFAR (He et al. 2016, section 4.2): 32 pixels become a map of 8 x 8."""
    from timm.models.resnet import BasicBlock

    stages, before = [], CIFAR_WIDTHS[0]
    for width in CIFAR_WIDTHS:
        halved = width != before
        first = BasicBlock(before, width, 2 if halved else 1, _ZeroPadded() if halved else None)
        rest = [BasicBlock(width, width) for _ in range(CIFAR_BLOCKS - 1)]
        stages.append(nn.Sequential(first, *rest))
        before = width
    stem = nn.Conv2d(input_channels, CIFAR_WIDTHS[0], 3, padding=1, bias=False)
    body = nn.Sequential(stem, nn.BatchNorm2d(CIFAR_WIDTHS[0]), nn.ReLU(inplace=True), *stages)
    for module in body.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return Backbone(body, before, input_channels)


def _small(input_channels: int) -> Backbone:
    """A 5x5 stem of stride 2 and three basic blocks: 16 pixels become a map of 2 x 2."""
    from timm.models.resnet import BasicBlock, downsample_conv

    first, second, third = SMALL_WIDTHS
    body = nn.Sequential(
        nn.Conv2d(input_channels, first, 5, stride=2, padding=2, bias=False),
        nn.BatchNorm2d(first),
        nn.ReLU(inplace=True),
        BasicBlock(first, first),
        BasicBlock(first, second, 2, downsample_conv(first, second, 1, 2)),
        BasicBlock(second, third, 2, downsample_conv(second, third, 1, 2)),
    )
    return Backbone(body, third, input_channels)


class _TimmMap(nn.Module):
    """The last feature map of a timm model, channels first whatever the model's own order."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Map images to B x C' x h x w."""
        features: Tensor = self.model.forward_features(images)
        if features.ndim == 3:
            return self._grid(features, (images.shape[2], images.shape[3]))
        if features.shape[1] != self.model.num_features:  # channels last
            return features.permute(0, 3, 1, 2)
        return features

    def _grid(self, tokens: Tensor, image: tuple[int, int]) -> Tensor:
        """Lay a transformer's patch tokens, B x P x C', out as they lie in the image."""
        embed: Any = getattr(self.model, "patch_embed", None)
        size = embed.dynamic_feat_size(image) if hasattr(embed, "dynamic_feat_size") else (0, 0)
        patches = tokens[:, getattr(self.model, "num_prefix_tokens", 0) :]
        if patches.shape[1] != size[0] * size[1]:
            raise InputError(
                "the backbone gives no feature map",
                got=f"{patches.shape[1]} vectors an image, which lie on no grid",
                expected="a feature map, or the tokens of a grid of patches",
                todo="choose another backbone",
            )
        return patches.transpose(1, 2).reshape(len(tokens), -1, *size)


def _timm(name: str, input_channels: int, pretrained: bool) -> Backbone:
    import timm

    try:
        model: Any = timm.create_model(
            name, pretrained=pretrained, num_classes=0, global_pool="", in_chans=input_channels
        )
    except (RuntimeError, ValueError, OSError, KeyError, TypeError) as error:
        raise InputError(
            f"timm:{name} cannot be made",
            got=str(error).splitlines()[0] if str(error) else repr(error),
            expected="a model name that timm knows",
            todo='look it up with `python -c "import timm; print(timm.list_models())"`',
        ) from error
    return Backbone(_TimmMap(model), int(model.num_features), input_channels)
