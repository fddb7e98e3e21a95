"""What a model says of all images of a split, in arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from alphafix.oltr.data import Images
from alphafix.oltr.metrics import ON_CPU, Running
from alphafix.progress import Progress, silent
from alphafix.values.arrays import FloatArray, IntArray

# Images a batch: no gradients are kept.
BATCH = 256


@dataclass(frozen=True)
class Features:
    """N samples.

    Attributes:
        features: What enters the head, float32 of shape N x D.
        labels: Class of each, int64 of shape N; -1 for no known class.
    """

    features: FloatArray
    labels: IntArray


@torch.inference_mode()
def features_of(
    model: nn.Module,
    images: Images,
    running: Running = ON_CPU,
    *,
    progress: Progress = silent,
) -> Features:
    """Features of all images, with test transforms, in their order.

    Args:
        model: Images to an `Output`; on the device.
        images: N images.
        running: Device and precision.
        progress: Told of the images.
    """
    model.eval()
    index = np.arange(len(images), dtype=np.int64)
    parts: list[FloatArray] = []
    with progress("features", len(images)) as advance:
        for pixels, _ in images.plain(index, BATCH, running.device):
            found = running.forward(model, pixels).features.cpu().numpy()
            parts.append(found.astype(np.float32, copy=False))
            advance(len(found))
    return Features(np.concatenate(parts), images.labels)
