"""Backbones that transformers saved in a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from alphafix.checkpoints import load_state_dict
from alphafix.checkpoints.formats.opening import find_file
from alphafix.checkpoints.weights import load_strictly
from alphafix.errors import InputError, MissingPackageError
from alphafix.models.model import Classifier, logits_attribute
from alphafix.models.preprocess import Overrides, Preprocess


@dataclass(frozen=True)
class ProcessorTransform:
    """A transformers image processor as a transform.

    Attributes:
        processor: The processor.
    """

    processor: Any

    def __call__(self, image: Image.Image) -> Tensor:
        """Map an RGB image to channels x H x W float32."""
        pixels = self.processor(images=image, return_tensors="pt")["pixel_values"]
        return torch.as_tensor(pixels)[0]


def transformers_classifier(name: str, weights: Path | None, overrides: Overrides) -> Classifier:
    """Load an image classifier from a folder that ``save_pretrained`` wrote.

    Args:
        name: The folder, with config.json, preprocessor_config.json and the weights.
        weights: Other weights for the same architecture, or None for the folder's own.
        overrides: Must be empty: the folder says how images are prepared.

    Raises:
        InputError: If it is no such folder, or the weights do not fit.
        MissingPackageError: If transformers is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise MissingPackageError(
            "hf: models need transformers, which is not installed",
            todo="pip install 'alphafix[hf]'",
        ) from error
    spec = f"hf:{name}"
    overrides.refuse(spec)
    if not (Path(name) / "config.json").is_file():
        raise InputError(
            f"{spec} is no saved model",
            got=f"no {name}/config.json",
            expected="a folder that save_pretrained wrote",
            todo="download the model first: hf download NAME --local-dir DIR",
        )
    try:
        model, loading = transformers.AutoModelForImageClassification.from_pretrained(
            name, local_files_only=True, output_loading_info=True
        )
        load_processor: Any = transformers.AutoImageProcessor.from_pretrained
        processor = load_processor(name, local_files_only=True)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise InputError(
            f"{spec} cannot be loaded",
            got=str(error).strip().splitlines()[0],
            expected="an image classifier with its preprocessor_config.json",
            todo="save both: model.save_pretrained(DIR), processor.save_pretrained(DIR)",
        ) from error
    wrong = [f"{what}: {sorted(map(str, names))[:4]}" for what, names in loading.items() if names]
    if wrong:
        raise InputError(
            f"the weights of {spec} do not fit its config",
            got="; ".join(wrong),
            expected="all tensors of the model, and no other",
            todo="save the fine-tuned model with save_pretrained",
        )
    if weights is not None:
        load_strictly(model, load_state_dict(weights), file=weights, spec=spec)
    labels = model.config.id2label or {}
    names = tuple(str(labels[key]) for key in sorted(labels))
    return Classifier(
        module=model.eval(),
        preprocess=Preprocess(
            ProcessorTransform(processor),
            None,
            None,
            {"origin": "the model's image processor", **_plain(processor.to_dict())},
        ),
        weights=weights or find_file(Path(name)),
        logits_of=logits_attribute,
        class_names=names,
    )


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    """The entries that are plain JSON values."""
    simple = (bool, int, float, str, list, dict, type(None))
    return {key: value for key, value in data.items() if isinstance(value, simple)}
