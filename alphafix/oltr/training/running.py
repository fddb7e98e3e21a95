"""A model at work: where it runs, what it says of all images of a split, and how right it is."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from alphafix.devices import Placement, autocast
from alphafix.distributed import Ranks, summed
from alphafix.metrics.accuracy import Accuracy, accuracy_of_counts
from alphafix.oltr.models.heads import Output
from alphafix.oltr.training.images import Images
from alphafix.progress import Progress, silent
from alphafix.values.arrays import FloatArray, IntArray
from alphafix.values.classes import ClassTable
from alphafix.values.head import Head

# Images a batch: no gradients are kept.
BATCH = 256


@dataclass(frozen=True)
class Running:
    """Where and how a model runs."""

    placement: Placement = field(default_factory=lambda: Placement(torch.device("cpu")))
    ranks: Ranks = field(default_factory=Ranks)

    @property
    def device(self) -> torch.device:
        """The device."""
        return self.placement.device

    def share(self, count: int) -> IntArray:
        """This process's part of ``count`` samples, int64."""
        return np.arange(self.ranks.rank, count, self.ranks.world, dtype=np.int64)

    def forward(self, model: nn.Module, images: Tensor) -> Output:
        """What the model gives, in float32 whatever it was computed in."""
        images = images.contiguous(memory_format=torch.channels_last)
        with autocast(self.device, self.placement.precision):
            output: Output = model(images)
        return _in_float32(output)


ON_CPU = Running()
"""One process on the CPU, in float32."""


def _in_float32(output: Output) -> Output:
    values = vars(output).items()
    return Output(
        **{
            name: value.float()
            if isinstance(value, Tensor) and value.is_floating_point()
            else value
            for name, value in values
        }
    )


@torch.inference_mode()
def closed_accuracy(
    model: nn.Module,
    images: Images,
    classes: ClassTable,
    running: Running = ON_CPU,
    *,
    batch: int = BATCH,
) -> Accuracy:
    """Accuracy of a model on images of known classes; each process does its part."""
    model.eval()
    counts = torch.zeros(2, len(classes), dtype=torch.int64, device=running.device)
    for pixels, labels in images.plain(running.share(len(images)), batch, running.device):
        predicted = running.forward(model, pixels).logits.argmax(1)
        counts[0].index_add_(0, labels, (predicted == labels).long())
        counts[1].index_add_(0, labels, torch.ones_like(labels))
    right, total = summed(counts).cpu().numpy()
    return accuracy_of_counts(right, total, classes)


@dataclass(frozen=True)
class HeadInputs:
    """What enters the head of N samples.

    Attributes:
        features: float32 of shape N x D.
        labels: Class of each, int64 of shape N; -1 for no known class.
        experts: How many experts each asked, float32 of shape N; None without a router.
    """

    features: FloatArray
    labels: IntArray
    experts: FloatArray | None = None


@torch.inference_mode()
def head_inputs(
    model: nn.Module,
    images: Images,
    running: Running = ON_CPU,
    *,
    progress: Progress = silent,
) -> HeadInputs:
    """Features of all images, with test transforms, in their order."""
    model.eval()
    index = np.arange(len(images), dtype=np.int64)
    features: list[FloatArray] = []
    experts: list[FloatArray] = []
    with progress("features", len(images)) as advance:
        for pixels, _ in images.plain(index, BATCH, running.device):
            output = running.forward(model, pixels)
            features.append(output.features.cpu().numpy())
            if output.experts is not None:
                experts.append(output.experts.cpu().numpy())
            advance(len(output.features))
    asked = np.concatenate(experts) if experts else None
    return HeadInputs(np.concatenate(features), images.labels, asked)


def linear_head(weight: Tensor, bias: Tensor | None) -> Head:
    """A linear layer as a value."""
    return Head(
        weight.detach().float().cpu().numpy(),
        None if bias is None else bias.detach().float().cpu().numpy(),
    )
