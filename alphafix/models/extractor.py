"""A proven model on its device: batches of images in, features out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from alphafix.devices import Placement, autocast
from alphafix.models.backbone import backbone_sha256
from alphafix.models.loading import prove
from alphafix.models.model import Caught, Classifier, Variants
from alphafix.models.preprocess import Preprocess
from alphafix.models.proof import Reading
from alphafix.values.arrays import FloatArray
from alphafix.values.head import Head


@dataclass(frozen=True)
class Extractor:
    """Computes features.

    Attributes:
        model: Maps N images to N x D features and N x C logits, on the device.
        caught: The same with its head's tensors, not compiled.
        head: The head in effect, which gives the model's logits of these features.
        reading: How the logits follow from features and head.
        preprocess: What makes the model's input.
        setting: Where and how it runs.
        class_names: C names in the order of the logits, where the model says so.
        args: Arguments that the model was made with.
        variants: See `Classifier`.
    """

    model: Callable[..., tuple[Tensor, Tensor]]
    caught: Caught
    head: Head
    reading: Reading
    preprocess: Preprocess
    setting: Placement
    class_names: tuple[str, ...] | None = None
    args: Mapping[str, Any] = field(default_factory=dict)
    variants: Variants | None = None

    @classmethod
    def prove(
        cls,
        classifier: Classifier,
        images: Tensor,
        setting: Placement,
        *,
        head: str | None = None,
        compiled: bool = False,
    ) -> Extractor:
        """Move a classifier to its device and prove its head on a first batch.

        Args:
            classifier: The classifier.
            images: The first batch, as its transform gives it.
            setting: Where and how it is to run.
            head: Name of the head module, if the user gave it.
            compiled: Whether to compile the model.

        Raises:
            InputError: If head and features do not give the model's own logits.
        """
        # channels_last is the layout that convolutions run fastest in, on CPUs and GPUs.
        classifier.module.to(setting.device)
        classifier.module.to(memory_format=torch.channels_last)
        with torch.inference_mode():
            batch = _to_device(images, setting, classifier.preprocess)
            with autocast(setting.device, setting.precision):
                caught, found, reading = prove(
                    classifier, batch, precision=setting.precision, head=head
                )
        return cls(
            model=torch.compile(caught.model) if compiled else caught.model,
            caught=caught,
            head=found,
            reading=reading,
            preprocess=classifier.preprocess,
            setting=setting,
            class_names=classifier.class_names,
            args=classifier.args,
            variants=classifier.variants,
        )

    def __call__(self, images: Tensor) -> Tensor:
        """Map N images, as the transform gives them, to N x D features on the device."""
        features, _ = self._run(images)
        found: Tensor = self.reading.features(features)
        return found

    def logits(self, images: Tensor) -> Tensor:
        """Map N images, as the transform gives them, to the model's own N x C logits."""
        return self._run(images)[1]

    def _run(self, images: Tensor) -> tuple[Tensor, Tensor]:
        with torch.inference_mode():
            batch = _to_device(images, self.setting, self.preprocess)
            with autocast(self.setting.device, self.setting.precision):
                return self.model(batch)

    @cached_property
    def backbone_sha256(self) -> str | None:
        """Hash of the model's tensors without its head (see `alphafix.models.backbone`)."""
        return backbone_sha256(self.caught)

    def of_variants(self, images: Tensor) -> Iterator[tuple[Mapping[str, Any], FloatArray]]:
        """Arguments that the weights fit, with N x C logits of N images (see `Variants`)."""
        if self.variants is None:
            return
        with torch.inference_mode():
            batch = _to_device(images, self.setting, self.preprocess)
            with autocast(self.setting.device, self.setting.precision):
                for args, logits in self.variants(batch):
                    yield args, logits.float().cpu().numpy()


def _to_device(images: Tensor, setting: Placement, preprocess: Preprocess) -> Tensor:
    moved = preprocess.finish(images.to(setting.device, non_blocking=True))
    return moved.contiguous(memory_format=torch.channels_last) if moved.ndim == 4 else moved
