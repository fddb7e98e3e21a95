"""Images for training: a tensor in memory, or files that loading processes decode.

Both give the same batches for the same `Epoch`, whatever the number of processes: what is
random about an image follows from its seed there. Shapes: N samples, B of a batch, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from alphafix.errors import InputError
from alphafix.images.batches import bad_image, loader_of
from alphafix.images.decode import decode
from alphafix.images.source import BadImageError, ImageSource
from alphafix.oltr.models.transform import ImageTransform
from alphafix.oltr.training.augmentation import BatchAugmentation, PhotoAugmentation
from alphafix.oltr.training.sampling import Epoch
from alphafix.values.arrays import ByteArray, IntArray
from alphafix.values.classes import ClassTable

Batch = tuple[Tensor, Tensor]
"""B x channels x H x W float32, normalised, and B labels, both on the model's device."""


class Images(ABC):
    """N labelled images.

    Attributes:
        labels: Class of each, int64 of shape N; -1 for images of no known class.
        transform: What a test does to an image.
    """

    labels: IntArray
    transform: ImageTransform

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def training(self, epoch: Epoch, device: torch.device) -> Iterator[Batch]:
        """The batches of an epoch, with random changes."""

    @abstractmethod
    def plain(self, index: IntArray, batch: int, device: torch.device) -> Iterator[Batch]:
        """The images ``index`` in order, as a test shows them."""


class TensorImages(Images):
    """Images that are all in memory: nothing is done image by image.

    Args:
        images: N x H x W or N x channels x H x W, uint8.
        labels: int64 of shape N.
        transform: Its mean and deviation are used; the size must be that of the images.
        augmentation: What is random in training, or None.

    Raises:
        InputError: If the shapes do not fit.
    """

    def __init__(
        self,
        images: Tensor | ByteArray,
        labels: IntArray,
        transform: ImageTransform,
        augmentation: BatchAugmentation | None = None,
    ) -> None:
        pixels = torch.as_tensor(images)
        pixels = pixels[:, None] if pixels.ndim == 3 else pixels
        wanted = (len(labels), transform.channels, transform.size, transform.size)
        if pixels.dtype != torch.uint8 or tuple(pixels.shape) != wanted:
            raise InputError(
                "the images do not fit their labels or the transform",
                got=f"{pixels.dtype}, shape {tuple(pixels.shape)}",
                expected=f"torch.uint8, shape {wanted}",
                todo="give one label an image, and channels before height and width",
            )
        self.pixels = pixels.contiguous()
        self.labels = np.asarray(labels, dtype=np.int64)
        self.transform = transform
        self.augmentation = augmentation

    def training(self, epoch: Epoch, device: torch.device) -> Iterator[Batch]:
        """Gather, change and normalise each batch on the device."""
        self._move(device)
        for index, seeds in zip(epoch.index, epoch.seeds, strict=True):
            images, labels = self._gather(index, device)
            if self.augmentation is not None:
                images = self.augmentation(images, seeds)
            yield self.transform.normalize(images), labels

    def plain(self, index: IntArray, batch: int, device: torch.device) -> Iterator[Batch]:
        """Gather and normalise."""
        self._move(device)
        for start in range(0, len(index), batch):
            images, labels = self._gather(index[start : start + batch], device)
            yield self.transform.normalize(images), labels

    def _move(self, device: torch.device) -> None:
        """Keep the images where they are used: uint8 is small."""
        self.pixels = self.pixels.to(device)

    def _gather(self, index: IntArray, device: torch.device) -> Batch:
        rows = torch.from_numpy(index).to(device)
        labels = torch.from_numpy(self.labels[index]).to(device)
        return self.pixels[rows].float(), labels


class FileImages(Images):
    """Images of a source, decoded by loading processes when they are needed.

    Args:
        source: Where they are.
        labels: Class of each, int64 of shape N (see `labels_of`).
        transform: What a test does.
        augmentation: What training does to an image instead, when it is decoded; or to a
            batch after ``transform``; or None.
        workers: Loading processes.
    """

    def __init__(
        self,
        source: ImageSource,
        labels: IntArray,
        transform: ImageTransform,
        augmentation: PhotoAugmentation | BatchAugmentation | None = None,
        *,
        workers: int = 0,
    ) -> None:
        self.source = source
        self.labels = labels
        self.transform = transform
        self.augmentation = augmentation
        self.workers = workers

    def training(self, epoch: Epoch, device: torch.device) -> Iterator[Batch]:
        """Decode and change image by image in the loading processes."""
        photo = self.augmentation if isinstance(self.augmentation, PhotoAugmentation) else None
        requests = [
            list(zip(index.tolist(), seeds.tolist(), strict=True))
            for index, seeds in zip(epoch.index, epoch.seeds, strict=True)
        ]
        batches = self._load(requests, photo, device)
        for (images, labels), seeds in zip(batches, epoch.seeds, strict=True):
            if isinstance(self.augmentation, BatchAugmentation):
                images = self.augmentation(images.float(), seeds)
            yield self.transform.normalize(images), labels

    def plain(self, index: IntArray, batch: int, device: torch.device) -> Iterator[Batch]:
        """Decode and transform image by image in the loading processes."""
        for images, labels in self._in_order(index, batch, device):
            yield self.transform.normalize(images), labels

    def in_memory(self) -> TensorImages:
        """Decode all images once."""
        batches = self._in_order(np.arange(len(self), dtype=np.int64), 256, torch.device("cpu"))
        pixels = torch.cat([images for images, _ in batches])
        augmentation = self.augmentation
        if isinstance(augmentation, PhotoAugmentation):
            raise TypeError("photographs are changed one by one, when they are decoded")
        return TensorImages(pixels, self.labels, self.transform, augmentation)

    def _in_order(self, index: IntArray, batch: int, device: torch.device) -> Iterator[Batch]:
        """Images as a test shows them, uint8: nothing about them follows from a seed."""
        parts = [index[start : start + batch].tolist() for start in range(0, len(index), batch)]
        return self._load([[(number, 0) for number in part] for part in parts], None, device)

    def _load(
        self,
        requests: list[list[tuple[int, int]]],
        augmentation: PhotoAugmentation | None,
        device: torch.device,
    ) -> Iterator[Batch]:
        loader = loader_of(
            _Decoding(self.source, self.transform, augmentation),
            requests,
            workers=self.workers,
            pin_memory=device.type == "cuda",
        )
        for request, (images, bad) in zip(requests, loader, strict=True):
            if bad:
                raise bad_image(bad)
            rows = [number for number, _ in request]
            labels = torch.from_numpy(self.labels[rows])
            yield images.to(device, non_blocking=True), labels.to(device, non_blocking=True)


class _Decoding(Dataset[Any]):
    """Decodes whole batches; what `DataLoader` sends to its workers."""

    def __init__(
        self,
        source: ImageSource,
        transform: ImageTransform,
        augmentation: PhotoAugmentation | None,
    ) -> None:
        self.source = source
        self.transform = transform
        self.augmentation = augmentation
        self.starts = group_starts(source)

    def __getitem__(self, request: Sequence[tuple[int, int]]) -> tuple[Tensor, list[Any]]:
        """Images of the pairs of sample number and seed; bad ones are listed, not raised."""
        images: list[Tensor] = []
        bad: list[tuple[str, str]] = []
        for number, seed in request:
            group = int(np.searchsorted(self.starts, number, side="right")) - 1
            sample = self.source.sample(group, number - int(self.starts[group]))
            try:
                image = decode(sample.content)
            except BadImageError as error:
                bad.append((sample.id, str(error)))
                continue
            if self.augmentation is None:
                images.append(self.transform(image))
            else:
                images.append(self.augmentation(self.transform.of_channels(image), seed))
        stacked = torch.stack(images) if images else torch.empty(0)
        return stacked, bad


def group_starts(source: ImageSource) -> IntArray:
    """Number of the first sample of each group of a source, int64."""
    sizes = [source.size(group) for group in range(source.groups)]
    return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)[:-1]]).astype(np.int64)


def labels_of(source: ImageSource) -> IntArray:
    """All labels of a source; archives are read through once."""
    known = source.known_labels
    if known is not None:
        return known
    found = [
        source.sample(group, index).label
        for group in range(source.groups)
        for index in range(source.size(group))
    ]
    return np.array(found, dtype=np.int64)


@dataclass(frozen=True)
class TrainingData:
    """What a model is trained on.

    Attributes:
        train: Training images.
        val: Validation images, on which the best epoch is chosen; or None.
        classes: The C classes.
    """

    train: Images
    val: Images | None
    classes: ClassTable
