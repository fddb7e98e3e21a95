"""A small classifier of our own, as a user would write one for ``python:``."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

NUM_CLASSES = 3
SIZE = 16
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


@dataclass(frozen=True)
class Small:
    """Images of 16 x 16, normalised as the exported copies of the model expect them."""

    def __call__(self, image: Image.Image) -> Tensor:
        pixels = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR))
        scaled = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255
        return (scaled - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


class SmallNet(nn.Module):
    """Two convolutions, a hidden layer of the head's own size, and the head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.body = nn.Conv2d(8, 6, 3, stride=2, padding=1)
        self.hidden = nn.Linear(6, NUM_CLASSES + 1)
        self.fc = nn.Linear(NUM_CLASSES + 1, NUM_CLASSES)

    def features(self, images: Tensor) -> Tensor:
        """What enters the head."""
        pooled = torch.relu(self.body(torch.relu(self.stem(images)))).mean(dim=(2, 3))
        return torch.relu(self.hidden(pooled))

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.fc(self.features(images))
        return logits


def small_net() -> SmallNet:
    """For --backbone python:tests.extract.models:small_net."""
    net = SmallNet()
    net.transform = Small()  # type: ignore[assignment]
    return net


class Cosine(nn.Module):
    """A cosine classifier's head."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(NUM_CLASSES, width))

    def forward(self, features: Tensor) -> Tensor:
        """Cosines."""
        unit = nn.functional.normalize
        return nn.functional.linear(unit(features, dim=1), unit(self.weight, dim=1))


class CosineNet(SmallNet):
    """A cosine classifier with a factor."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = Cosine(NUM_CLASSES + 1)  # type: ignore[assignment]

    def forward(self, images: Tensor) -> Tensor:
        """Cosines times 16."""
        return 16 * super().forward(images)


class SoftmaxNet(SmallNet):
    """Gives probabilities: no linear head gives those."""

    def forward(self, images: Tensor) -> Tensor:
        """Probabilities."""
        return super().forward(images).softmax(dim=1)


class TwoHeads(SmallNet):
    """The mean of two heads' logits."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(NUM_CLASSES + 1, NUM_CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Mean logits."""
        found = self.features(images)
        mean: Tensor = (self.fc(found) + self.other(found)) / 2
        return mean


def _with_transform(net: SmallNet) -> SmallNet:
    net.transform = Small()  # type: ignore[assignment]
    return net


def cosine_net() -> SmallNet:
    """A cosine classifier."""
    return _with_transform(CosineNet())


def softmax_net() -> SmallNet:
    """A model that gives probabilities."""
    return _with_transform(SoftmaxNet())


def two_heads() -> SmallNet:
    """A model with two heads."""
    return _with_transform(TwoHeads())


def no_transform() -> SmallNet:
    """A model that does not say how images become its input."""
    return SmallNet()


class SlowNet(SmallNet):
    """Takes its time, so that a test can interrupt it."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits, after a while."""
        time.sleep(0.01)
        return super().forward(images)


class MortalNet(SmallNet):
    """Kills the second of several processes in the middle of its work, once."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits, or death."""
        self.calls = getattr(self, "calls", 0) + 1
        first_try = os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0"
        if first_try and os.environ.get("RANK") == "1" and self.calls == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(images)


def slow_net() -> SmallNet:
    """A slow model."""
    return _with_transform(SlowNet())


def mortal_net() -> SmallNet:
    """A model that dies once."""
    return _with_transform(MortalNet())


class DropNet(SmallNet):
    """Forgets to say when it is not trained."""

    def features(self, images: Tensor) -> Tensor:
        """What enters the head, with holes."""
        return nn.functional.dropout(super().features(images), 0.5)


class BatchNet(SmallNet):
    """Takes the means of the batch, whatever mode it is in."""

    def features(self, images: Tensor) -> Tensor:
        """What enters the head."""
        found = super().features(images)
        return nn.functional.batch_norm(found, None, None, training=True)


def drop_net() -> SmallNet:
    """A model with dropout."""
    return _with_transform(DropNet())


def batch_net() -> SmallNet:
    """A model with statistics of the batch."""
    return _with_transform(BatchNet())


class FlatNet(SmallNet):
    """Without convolutions, which take long to compile."""

    def features(self, images: Tensor) -> Tensor:
        """What enters the head."""
        found: Tensor = self.hidden(images.mean(dim=1).flatten(1)[:, :6])
        return found


def flat_net() -> SmallNet:
    """A model that compiles quickly."""
    return _with_transform(FlatNet())


class ZeroShotNet(SmallNet):
    """As CLIP's zero-shot classifiers: cosines with stored class embeddings, times a factor."""

    def __init__(self, *, turned: bool = False) -> None:
        super().__init__()
        del self.fc
        unit = nn.functional.normalize(torch.randn(NUM_CLASSES, NUM_CLASSES + 1), dim=1)
        self.classes = nn.Parameter(unit.T.contiguous() if turned else unit)
        self.logit_scale = nn.Parameter(torch.tensor(3.0))
        self.turned = turned

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        found = nn.functional.normalize(self.features(images), dim=1)
        rows = self.classes if self.turned else self.classes.T
        logits: Tensor = self.logit_scale.exp() * found @ rows
        return logits


class ZeroShotCosine(ZeroShotNet):
    """The same, but it divides its rows by their lengths when it runs."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        unit = nn.functional.normalize
        found = nn.functional.linear(unit(self.features(images), dim=1), unit(self.classes, dim=1))
        logits: Tensor = self.logit_scale.exp() * found
        return logits


class WiseNet(SmallNet):
    """As WiSE-FT writes such heads: a linear layer, of rows that hold the factor already."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(NUM_CLASSES + 1, NUM_CLASSES, bias=False)
        with torch.no_grad():
            self.fc.weight.copy_(20 * nn.functional.normalize(self.fc.weight, dim=1))

    def features(self, images: Tensor) -> Tensor:
        """What enters the head, of length 1."""
        return nn.functional.normalize(super().features(images), dim=1)


def zero_shot() -> SmallNet:
    """C x D embeddings, used as they are stored."""
    return _with_transform(ZeroShotNet())


def zero_shot_turned() -> SmallNet:
    """D x C embeddings."""
    return _with_transform(ZeroShotNet(turned=True))


def zero_shot_cosine() -> SmallNet:
    """Embeddings that are divided by their lengths."""
    return _with_transform(ZeroShotCosine())


def wise_net() -> SmallNet:
    """A linear layer on normalised features."""
    return _with_transform(WiseNet())


def pooled(how: str = "mean") -> SmallNet:
    """A model whose weights do not tell how it pools."""
    net = _with_transform(SmallNet())

    def features(images: Tensor) -> Tensor:
        maps = torch.relu(net.body(torch.relu(net.stem(images))))
        pooled = maps.amax(dim=(2, 3)) if how == "max" else maps.mean(dim=(2, 3))
        return torch.relu(net.hidden(pooled))

    net.features = features  # type: ignore[method-assign]
    return net


POOLING = "mean"


def pooled_as_set() -> SmallNet:
    """A model whose code can be changed by a test."""
    return pooled(POOLING)
