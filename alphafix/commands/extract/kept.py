"""Features that a run holds already and that a model with another head gives too."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from alphafix.errors import FileFormatError
from alphafix.features.extraction import Job, extracted
from alphafix.features.reuse import PROVEN_ON, largest_error, why_not
from alphafix.features.store import FeatureStore
from alphafix.images.parts import Limited
from alphafix.images.splits import SplitSources
from alphafix.models.extractor import Extractor
from alphafix.models.proof import TOLERANCE
from alphafix.run.artifact import Artifact

logger = logging.getLogger(__name__)

# What stored numbers are rounded to, as a precision that the logits of a model have.
_AS_PRECISION = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


def kept_features(
    candidates: Mapping[str, Artifact],
    images: SplitSources,
    extractor: Extractor,
    job_of: Callable[..., tuple[Job, dict[str, Any]]],
) -> dict[str, FeatureStore]:
    """The stored features that stay, because nothing but the head of their model is another.

    The model's backbone must have the same weights, and on some images of each split the model
    must give the logits that its head makes of the stored features.

    Args:
        candidates: Stores that were made as planned, but for the weights.
        images: The images of all splits.
        extractor: The model of now.
        job_of: The job of a split and a source, and what the manifest says of it.
    """
    found = {}
    for split, artifact in candidates.items():
        folder = artifact.path.parent
        job, info = job_of(split, Limited(images.sources[split], PROVEN_ON))
        info |= {"backbone_sha256": extractor.backbone_sha256}
        try:
            store = FeatureStore.open(folder)
            reason = why_not(store, info, extractor.head) or _disproof(store, job, extractor)
        except FileFormatError as error:
            reason = str(error)
        if reason is None:
            found[split] = store
            logger.info("%s: only the head of the model is another: the features stay", folder)
        else:
            logger.info("%s is made anew, because the model is another: %s", folder, reason)
    return found


def _disproof(store: FeatureStore, job: Job, extractor: Extractor) -> str | None:
    """How the model's logits differ from those of stored features and its head, if they do."""
    logits = replace(job, features_of=extractor.logits, dtype="float32", workers=0, head=None)
    error = largest_error(store, extractor.head, extracted(logits, lambda count: None))
    precisions = (extractor.setting.precision, _AS_PRECISION[store.dtype])
    allowed = max(TOLERANCE[precision] for precision in precisions)
    if error is None:
        return "none of the images that it was held against is stored"
    if error > allowed:
        return f"on stored features its head gives other logits (relative difference {error:.2g})"
    return None
