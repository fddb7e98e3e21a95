"""Nearest class mean, in all six variants."""

from __future__ import annotations

from functools import partial

import numpy as np

from alphafix.rivals.material import Fitted, Material, class_sums, linear, unit
from alphafix.values.arrays import FloatArray, FloatArray64

FEATURES = ("plain", "l2", "cl2")
DISTANCES = ("euclidean", "cosine")


def fit(material: Material, *, features: str = "cl2", distance: str = "euclidean") -> Fitted:
    """The class whose mean is nearest (Kang et al. 2020, section 4.2, and their code).

    Args:
        material: What to fit on.
        features: "plain", "l2" (unit length), or "cl2" (the global mean subtracted, then unit
            length), before the means are taken.
        distance: "euclidean" or "cosine".

    With plain features ||x - m_c||^2 = ||x||^2 - 2 (x.m_c - ||m_c||^2 / 2), so that the nearest
    mean is the largest x.m_c - ||m_c||^2 / 2: a linear head. With cosine distance the length of
    the feature is common to all classes, so that (x - mu).m_c/||m_c|| ranks the same: linear
    too. Only Euclidean distance of normalised features is not.
    """
    name = f"ncm-{features}" + ("" if distance == "euclidean" else "-cosine")
    center = material.features.mean(axis=0, dtype=np.float64) if features == "cl2" else 0.0
    center = np.broadcast_to(center, material.features.shape[1:])
    mapped = transform(material.features, features, center)
    means = class_sums(mapped, material.labels, len(material.classes)) / material.counts[:, None]
    if distance == "cosine":
        rows = unit(means)
        return linear(name, material, rows, -rows @ center)
    if features == "plain":
        return linear(name, material, means, -0.5 * (means**2).sum(axis=1))
    logits = partial(nearest_mean_logits, features=features, center=center, means=means)
    return Fitted(name, logits, {}, material.validate(logits))


def transform(values: FloatArray, features: str, center: FloatArray64) -> FloatArray64:
    """Features as the variant wants them, float64 of shape n x D."""
    centered = values.astype(np.float64) - center
    return centered if features == "plain" else unit(centered)


def nearest_mean_logits(
    values: FloatArray, *, features: str, center: FloatArray64, means: FloatArray64
) -> FloatArray:
    """-||x - m_c||^2 / 2 up to a constant of the sample, float32 of shape n x C."""
    mapped = transform(values, features, center)
    return np.asarray(mapped @ means.T - 0.5 * (means**2).sum(axis=1), dtype=np.float32)
