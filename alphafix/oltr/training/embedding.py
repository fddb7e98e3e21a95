"""A sample of what OLTR's head makes of direct features, kept beside the model for its pictures.

Shapes: n sampled images, D feature width, C classes, Q sampled classes, P shown memory classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alphafix.errors import call
from alphafix.files import read_tensors, write_tensors
from alphafix.reading.boundary import reading
from alphafix.reading.schema import typed
from alphafix.values.arrays import Array, ByteArray, FloatArray, IntArray
from alphafix.values.classes import TIERS, ClassTable

if TYPE_CHECKING:
    from torch import Tensor, nn

    from alphafix.oltr.training.images import Images
    from alphafix.oltr.training.running import Running


EMBEDDING = "embedding.safetensors"

# Enough for a picture, little enough for a file of a few megabytes.
SAMPLES = 2000
PER_CLASS = 20

# The n x C coefficients are held while their figures are taken: 64 million are 256 MB.
COEFFICIENTS = 64 << 20

# Memory classes whose images are shown, images in an average, its longest side in pixels.
SHOWN, AVERAGED, SIDE = 8, 16, 64

# What a class borrows most of (OLTR, Figure 14).
INFUSED = 3


@dataclass(frozen=True)
class MemoryFigures:
    """What the memory gives to the sampled images (OLTR, Eq. 1).

    Attributes:
        mean: Mean coefficient of each memory class, float32 of shape C.
        classes: Sampled classes, int64 of shape Q.
        own: Mean coefficient that each gives to itself, float32 of shape Q.
        infused: The other memory classes with the largest mean coefficients for it, largest
            first, int64 of shape Q x 3 (fewer where there are fewer classes).
        infused_values: These coefficients, float32 of that shape.
        shown: Memory classes with the largest mean coefficients, int64 of shape P.
        most: Average of the images that activate each of them most, uint8 of shape
            P x side x side x channels.
        least: Average of those that activate it least.
    """

    mean: FloatArray
    classes: IntArray
    own: FloatArray
    infused: IntArray
    infused_values: FloatArray
    shown: IntArray
    most: ByteArray
    least: ByteArray

    @classmethod
    def of(cls, coefficients: FloatArray, labels: IntArray, images: ByteArray) -> MemoryFigures:
        """Take the figures of the sampled images.

        Args:
            coefficients: o, float32 of shape n x C.
            labels: Their classes, int64 of shape n.
            images: The images, uint8 of shape n x side x side x channels.
        """
        classes = np.unique(labels)
        means = np.stack([coefficients[labels == label].mean(axis=0) for label in classes])
        rows = np.arange(len(classes))
        own = means[rows, classes].copy()
        means[rows, classes] = -np.inf
        infused = np.argsort(-means, axis=1, kind="stable")[:, :INFUSED]
        infused = infused[:, : coefficients.shape[1] - 1]
        mean = coefficients.mean(axis=0)
        shown = np.argsort(-mean, kind="stable")[:SHOWN]
        ranks = np.argsort(-coefficients[:, shown], axis=0, kind="stable")
        count = min(AVERAGED, max(1, len(labels) // 2))
        return cls(
            mean=mean,
            classes=classes,
            own=own,
            infused=infused,
            infused_values=np.take_along_axis(means, infused, axis=1),
            shown=shown,
            most=_average(images, ranks[:count]),
            least=_average(images, ranks[-count:]),
        )


@dataclass(frozen=True)
class Embedding:
    """Sampled images before and after the memory.

    Attributes:
        direct: Direct features, float32 of shape n x D.
        features: Squashed meta-embeddings, which enter the classifier, float32 of n x D.
        labels: Their classes, int64 of shape n.
        memory: What the memory gives, or None for a model without it.
        names: C class names.
        split: Split that the images are from.
        info: What else is to be known of them, as JSON data.
    """

    direct: FloatArray
    features: FloatArray
    labels: IntArray
    memory: MemoryFigures | None
    names: tuple[str, ...]
    split: str
    info: Mapping[str, Any] = field(default_factory=dict)

    def save(self, path: Path, *, overwrite: bool = False) -> None:
        """Write one safetensors file."""
        tensors: dict[str, Array] = {
            "direct": self.direct,
            "features": self.features,
            "labels": self.labels,
        }
        if self.memory is not None:
            tensors |= {f"memory.{name}": value for name, value in vars(self.memory).items()}
        metadata = {"value": "embedding", "names": self.names, "split": self.split}
        write_tensors(path, tensors, {**metadata, "info": dict(self.info)}, overwrite=overwrite)

    @classmethod
    def load(cls, path: Path) -> Embedding:
        """Read what `save` wrote.

        Raises:
            FileFormatError: If it is no such file.
        """
        tensors, metadata = read_tensors(path)
        todo = "evaluate the model again with train-oltr"
        with reading(path, f"the {EMBEDDING} that {call('train-oltr')} wrote", todo=todo):
            memory = None
            if "memory.mean" in tensors:
                memory = MemoryFigures(
                    **{part.name: tensors[f"memory.{part.name}"] for part in fields(MemoryFigures)}
                )
            return cls(
                direct=tensors["direct"],
                features=tensors["features"],
                labels=tensors["labels"],
                memory=memory,
                names=typed(tuple[str, ...], metadata["names"], "names"),
                split=typed(str, metadata["split"], "split"),
                info=typed(dict[str, Any], metadata["info"], "info"),
            )


def collect_embedding(
    model: nn.Module,
    images: Images,
    classes: ClassTable,
    running: Running,
    *,
    split: str,
    seed: int = 0,
    info: Mapping[str, Any] | None = None,
) -> Embedding | None:
    """Run a model on a sample of images, or return None if it has no meta-embeddings."""
    import torch

    most = min(SAMPLES, max(2 * PER_CLASS, COEFFICIENTS // len(classes)))
    index = sample_by_class(images.labels, classes, most=most, seed=seed)
    model.eval()
    parts: dict[str, list[Array]] = {}
    with torch.inference_mode():
        for pixels, _ in images.plain(index, 64, running.device):
            output = running.forward(model, pixels)
            if output.meta is None:
                return None
            found = {"direct": output.direct, "features": output.features, "memory": output.memory}
            for name, tensor in found.items():
                if tensor is not None:
                    parts.setdefault(name, []).append(tensor.cpu().numpy())
            parts.setdefault("pixels", []).append(_small(pixels, images.transform))
    if not parts:
        return None
    arrays = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    labels = images.labels[index]
    return Embedding(
        direct=arrays["direct"],
        features=arrays["features"],
        labels=labels,
        memory=MemoryFigures.of(arrays["memory"], labels, arrays["pixels"])
        if "memory" in arrays
        else None,
        names=classes.names,
        split=split,
        info=info or {},
    )


def sample_by_class(
    labels: IntArray, classes: ClassTable, *, most: int = SAMPLES, seed: int = 0
) -> IntArray:
    """Numbers of at most ``most`` samples, ascending: whole classes, evenly over the tiers.

    Args:
        labels: int64 of shape N; others than 0..C-1 are left out.
        classes: The C classes.
        most: Largest number of samples.
        seed: Which classes, and which 20 samples of a larger one.
    """
    rng = np.random.default_rng(seed)
    shuffled = [rng.permutation(classes.tier(name)).tolist() for name in TIERS]
    longest = max(len(part) for part in shuffled)
    turns = [part[i] for i in range(longest) for part in shuffled if i < len(part)]
    chosen: list[int] = []
    for label in turns:
        places = np.flatnonzero(labels == label)
        places = rng.permutation(places)[: min(PER_CLASS, most - len(chosen))]
        chosen += places.tolist()
        if len(chosen) == most:
            break
    return np.sort(np.array(chosen, dtype=np.int64))


def _small(pixels: Tensor, transform: Any) -> ByteArray:
    """Normalised images as small uint8 ones, channels last."""
    import torch
    from torch.nn import functional

    shape = (1, -1, 1, 1)
    mean, std = (
        torch.tensor(values, device=pixels.device).view(shape)
        for values in (transform.mean, transform.std)
    )
    images = (pixels.float() * std + mean).clamp(0, 1)
    if images.shape[-1] > SIDE:
        images = functional.interpolate(images, size=(SIDE, SIDE), mode="area")
    small: ByteArray = (images * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return small


def _average(images: ByteArray, ranks: IntArray) -> ByteArray:
    """Mean of the images ``ranks`` (count x P) of each memory class."""
    averages = [images[ranks[:, i]].mean(axis=0) for i in range(ranks.shape[1])]
    rounded: ByteArray = np.rint(np.stack(averages)).astype(np.uint8)
    return rounded
