"""Batches of images, made by worker processes and given in a fixed order."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from alphafix.errors import InputError, option
from alphafix.images.decode import is_cut, open_image, read_bytes, to_rgb
from alphafix.images.source import BadImageError, Content, ImageSource


class BatchKey(NamedTuple):
    """Samples ``start`` to ``stop`` - 1 of one group of a source."""

    group: int
    start: int
    stop: int


class Batch(NamedTuple):
    """What became of the samples of one key.

    Attributes:
        images: n x channels x H x W, or None if no image could be used; or a list of those
            that are transformed already and of the bytes of JPEG files (see
            `alphafix.images.encoded`).
        labels: int64 of shape n.
        ids: n sample ids.
        bad: Id and reason of each image that could not be used.
        cut: Ids of images whose values were cut to 8 bits (see `alphafix.images.decode`).
    """

    images: Tensor | list[Tensor] | None
    labels: Tensor
    ids: list[str]
    bad: list[tuple[str, str]]
    cut: tuple[str, ...] = ()


class BatchDataset(Dataset[Batch]):
    """Reads, decodes and transforms whole batches; a data set for `DataLoader` workers.

    Args:
        source: Where the images are.
        transform: PIL image -> tensor.
        exif_rotate: See `alphafix.images.decode.decode`.
        keep_encoded: Which files are to be left to the decoder of the model's device.
    """

    def __init__(
        self,
        source: ImageSource,
        transform: Callable[[Image.Image], Tensor],
        *,
        exif_rotate: bool = False,
        keep_encoded: Callable[[bytes], bool] | None = None,
    ) -> None:
        self.source = source
        self.transform = transform
        self.exif_rotate = exif_rotate
        self.keep_encoded = keep_encoded

    def __getitem__(self, key: BatchKey) -> Batch:
        """Make one batch; images that cannot be used are listed, not raised."""
        images: list[Tensor] = []
        labels: list[int] = []
        ids: list[str] = []
        bad: list[tuple[str, str]] = []
        cut: list[str] = []
        for index in range(key.start, key.stop):
            sample = self.source.sample(key.group, index)
            try:
                image = self._load(sample.content)
                if isinstance(image, Image.Image):
                    cut += [sample.id] if is_cut(image) else []
                    image = self.transform(to_rgb(image))
            except BadImageError as error:
                bad.append((sample.id, str(error)))
                continue
            images.append(image)
            labels.append(sample.label)
            ids.append(sample.id)
        # Images of no file to decode make one tensor, which needs one copy to the device.
        encoded = self.keep_encoded is not None and any(image.ndim == 1 for image in images)
        found = images if encoded else _stack(images)
        return Batch(found, torch.tensor(labels, dtype=torch.int64), ids, bad, tuple(cut))

    def _load(self, content: Content) -> Tensor | Image.Image:
        """The image, or the bytes of one that is left to the decoder of the model's device."""
        if self.keep_encoded is not None and isinstance(content, (bytes, Path)):
            content = read_bytes(content)
            if self.keep_encoded(content):
                return torch.frombuffer(bytearray(content), dtype=torch.uint8)
        return open_image(content, exif_rotate=self.exif_rotate)


def _stack(images: list[Tensor]) -> Tensor | None:
    if not images:
        return None
    stacked = torch.stack(images)
    # The layout that the model runs in is made here, by the worker, and not while it waits.
    return stacked.contiguous(memory_format=torch.channels_last) if stacked.ndim == 4 else stacked


def load_batches(
    dataset: BatchDataset, keys: Iterable[BatchKey], *, workers: int, pin_memory: bool
) -> Iterator[Batch]:
    """Give the batches of ``keys``, in their order, made ahead of use by worker processes."""
    return iter(loader_of(dataset, keys, workers=workers, pin_memory=pin_memory))


def loader_of(
    dataset: Dataset[Any], keys: Iterable[Any], *, workers: int, pin_memory: bool
) -> DataLoader[Any]:
    """Load what ``keys`` name, each of them a whole batch, in worker processes.

    An interrupt of the terminal, which all processes get, is for the one that they work for.
    """
    more: dict[str, Any] = {"prefetch_factor": 4} if workers else {}
    return DataLoader(
        dataset,
        batch_size=None,  # a key is a batch already
        sampler=keys,
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=_ignore_interrupts,
        **more,
    )


def _ignore_interrupts(worker: int) -> None:
    """Let this process end with the one that it works for, without a word."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def first_batch(dataset: BatchDataset, size: int, *, skip_bad: bool) -> Tensor:
    """Give the images of the first batch with an image that can be used.

    Args:
        dataset: The images.
        size: Images a batch.
        skip_bad: Whether to go on after an image that cannot be used.

    Raises:
        InputError: If there is none, or one cannot be used and ``skip_bad`` is false.
    """
    for group in range(dataset.source.groups):
        count = dataset.source.size(group)
        for start in range(0, count, size):
            batch = dataset[BatchKey(group, start, min(start + size, count))]
            if batch.bad and not skip_bad:
                raise bad_image(batch.bad)
            if isinstance(batch.images, Tensor):
                return batch.images
    raise InputError(
        "no image of the split can be used",
        expected="at least one whole image",
        todo=f"check {option('data')}; without {option('on_bad_image', 'skip')} the first bad "
        "image is named",
    )


def bad_image(bad: list[tuple[str, str]]) -> InputError:
    """Return the error of images that cannot be used."""
    name, reason = bad[0]
    more = f" (and {len(bad) - 1} more in this batch)" if len(bad) > 1 else ""
    return InputError(
        f"the image {name} cannot be used{more}",
        got=reason,
        expected="a whole image",
        todo=f"mend or remove it, or give {option('on_bad_image', 'skip')} to leave such images "
        "out and list them",
    )
