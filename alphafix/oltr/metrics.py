"""Closed-set accuracy of a model by few, medium and many, summed over processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from alphafix.devices import Precision, autocast
from alphafix.oltr.data import Images
from alphafix.oltr.distributed import add_up
from alphafix.oltr.output import Output
from alphafix.values.arrays import IntArray
from alphafix.values.classes import TIERS, ClassTable

Accuracy = Mapping[str, "float | None"]
"""Top-1 accuracy in percent of "few", "medium", "many" and "overall"; None without samples."""

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Running:
    """Where and how a model runs.

    Attributes:
        device: The device.
        precision: "fp32", or what is multiplied in under autocast.
        rank: Number of this process.
        world: Number of processes.
    """

    device: torch.device = CPU
    precision: Precision = "fp32"
    rank: int = 0
    world: int = 1

    def forward(self, model: nn.Module, images: Tensor) -> Output:
        """What the model gives, in float32 whatever it was computed in."""
        images = images.contiguous(memory_format=torch.channels_last)
        with autocast(self.device, self.precision):
            output: Output = model(images)
        return in_float32(output)


ON_CPU = Running()
"""One process on the CPU, in float32."""


def in_float32(output: Output) -> Output:
    """An output whose tensors all are float32 at least."""
    values = vars(output).items()
    return Output(
        **{name: value.float() if isinstance(value, Tensor) else value for name, value in values}
    )


def accuracy_by_tier(right: IntArray, counts: IntArray, classes: ClassTable) -> Accuracy:
    """Top-1 accuracy in percent of each split and overall, over samples.

    Args:
        right: Samples of each class that are predicted correctly, int64 of shape C.
        counts: Samples of each class, int64 of shape C.
        classes: Which class is in which split.
    """
    found: dict[str, float | None] = {}
    for name in (*TIERS, "overall"):
        mine = classes.tier(name)
        total = int(counts[mine].sum())
        found[name] = 100 * int(right[mine].sum()) / total if total else None
    return found


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    images: Images,
    classes: ClassTable,
    running: Running = ON_CPU,
    *,
    batch: int = 256,
) -> Accuracy:
    """Accuracy of a model on images of known classes; each process does its part."""
    model.eval()
    counts = torch.zeros(2, len(classes), dtype=torch.int64, device=running.device)
    mine = np.arange(running.rank, len(images), running.world, dtype=np.int64)
    for pixels, labels in images.plain(mine, batch, running.device):
        predicted = running.forward(model, pixels).logits.argmax(1)
        counts[0].index_add_(0, labels, (predicted == labels).long())
        counts[1].index_add_(0, labels, torch.ones_like(labels))
    right, total = add_up(counts).cpu().numpy()
    return accuracy_by_tier(right, total, classes)
