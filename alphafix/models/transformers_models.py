"""Backbones that transformers saved in a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from alphafix.checkpoints.formats.opening import find_file
from alphafix.checkpoints.weights import read_weights
from alphafix.errors import InputError, MissingPackageError
from alphafix.models.model import Classifier, Wanted, logits_attribute
from alphafix.models.preprocess import Preprocess


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


def transformers_classifier(wanted: Wanted) -> Classifier:
    """Load an image classifier from a folder that ``save_pretrained`` wrote.

    The folder has config.json, preprocessor_config.json and the weights; other weights for the
    same architecture (a patched copy) are read by transformers too, which knows older names.

    Raises:
        InputError: If it is no such folder, or the weights do not fit.
        MissingPackageError: If transformers is not installed.
    """
    transformers = _transformers()
    wanted.refuse_args()
    spec, folder = wanted.spec, _folder(wanted)
    weights = wanted.weights or find_file(folder)
    load: Any = transformers.AutoModelForImageClassification.from_pretrained
    try:
        if wanted.weights is None:
            model, loading = load(folder, local_files_only=True, output_loading_info=True)
        else:
            state = read_weights(weights, section=wanted.section, spec=spec)
            config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
            with torch.device("meta"):  # for the class alone
                kind: Any = type(transformers.AutoModelForImageClassification.from_config(config))
            model, loading = kind.from_pretrained(
                None, config=config, state_dict=state, output_loading_info=True
            )
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise _not_loaded(spec, error) from error
    wrong = [f"{what}: {sorted(map(str, names))[:4]}" for what, names in loading.items() if names]
    if wrong:
        raise InputError(
            f"the weights of {weights if wanted.weights else spec} do not fit the config of {spec}",
            got="; ".join(wrong),
            expected="all tensors of the model, and no other",
            todo="save the fine-tuned model with save_pretrained",
        )
    labels = model.config.id2label or {}
    names = tuple(str(labels[key]) for key in sorted(labels))
    return Classifier(
        module=model.eval(),
        preprocess=transformers_preprocess(wanted),
        weights=weights,
        logits_of=logits_attribute,
        class_names=names,
    )


def transformers_preprocess(wanted: Wanted) -> Preprocess:
    """The transform that the folder says, by itself."""
    wanted.overrides.refuse(wanted.spec)
    load: Any = _transformers().AutoImageProcessor.from_pretrained
    try:
        processor = load(_folder(wanted), local_files_only=True)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise _not_loaded(wanted.spec, error) from error
    record = {"origin": "the model's image processor", **_plain(processor.to_dict())}
    return Preprocess(ProcessorTransform(processor), None, None, record)


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise MissingPackageError(
            "hf: models need transformers, which is not installed",
            todo="pip install 'alphafix[hf]'",
        ) from error
    return transformers


def _folder(wanted: Wanted) -> Path:
    folder = Path(wanted.name)
    if not (folder / "config.json").is_file():
        raise InputError(
            f"{wanted.spec} is no saved model",
            got=f"no {folder}/config.json",
            expected="a folder that save_pretrained wrote",
            todo="download the model first: hf download NAME --local-dir DIR",
        )
    return folder


def _not_loaded(spec: str, error: Exception) -> InputError:
    return InputError(
        f"{spec} cannot be loaded",
        got=str(error).strip().splitlines()[0],
        expected="an image classifier with its preprocessor_config.json",
        todo="save both: model.save_pretrained(DIR), processor.save_pretrained(DIR)",
    )


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    """The entries that are plain JSON values."""
    simple = (bool, int, float, str, list, dict, type(None))
    return {key: value for key, value in data.items() if isinstance(value, simple)}
