"""What a sample of embeddings shows: compactness before and after, and what the memory gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alphafix.oltr.training.embedding import Embedding, MemoryFigures, sample_by_class
from alphafix.values.arrays import FloatArray, FloatArray64, IntArray
from alphafix.values.classes import TIERS, ClassTable

# Points of a picture of embeddings: some two dozen classes, told apart by eye.
POINTS = 480


@dataclass(frozen=True)
class Projection:
    """Direct features and meta-embeddings in two dimensions (OLTR, Figure 3).

    Attributes:
        labels: Classes of the points, int64 of shape m.
        direct: t-SNE of their direct features, float64 of shape m x 2.
        features: t-SNE of their meta-embeddings, float64 of shape m x 2.
        compactness: Mean silhouette in the full space by kind ("direct", "features") and
            split, from -1 (inside other classes) to 1; None where the split has fewer than
            two classes among the points.
    """

    labels: IntArray
    direct: FloatArray64
    features: FloatArray64
    compactness: dict[str, dict[str, float | None]]


def project(embedding: Embedding, classes: ClassTable) -> Projection | None:
    """Project a part of the sample, whole classes evenly over the splits.

    Returns:
        None where fewer than two classes or five images leave nothing to look at.
    """
    index = sample_by_class(embedding.labels, classes, most=POINTS)
    labels = embedding.labels[index]
    if len(index) < 5 or len(np.unique(labels)) < 2:
        return None
    kinds = {"direct": embedding.direct[index], "features": embedding.features[index]}
    return Projection(
        labels,
        **{name: tsne(values) for name, values in kinds.items()},
        compactness={name: _compactness(values, labels, classes) for name, values in kinds.items()},
    )


def tsne(values: FloatArray) -> FloatArray64:
    """t-SNE (van der Maaten and Hinton 2008), float64 of shape m x 2."""
    from sklearn.manifold import TSNE

    # Perplexity must be under the number of points; 30 is the usual one.
    perplexity = min(30.0, (len(values) - 1) / 3)
    found = TSNE(init="pca", perplexity=perplexity, random_state=0).fit_transform(values)
    return np.asarray(found, dtype=np.float64)


def _compactness(
    values: FloatArray, labels: IntArray, classes: ClassTable
) -> dict[str, float | None]:
    from sklearn.metrics import silhouette_samples

    if len(np.unique(labels)) == len(labels):
        return dict.fromkeys(TIERS)  # one image a class has no spread
    each = silhouette_samples(values, labels)
    inside = {name: np.isin(labels, classes.tier(name)) for name in TIERS}
    return {name: float(each[mine].mean()) if mine.any() else None for name, mine in inside.items()}


def activated_classes(memory: MemoryFigures, count: int = 12) -> tuple[IntArray, IntArray]:
    """The memory classes with the largest and with the smallest mean coefficients.

    Returns:
        The most activated ones, largest first, and the least, smallest first, int64; of each
        at most half of the classes.
    """
    order = np.argsort(-memory.mean, kind="stable")
    count = min(count, len(order) // 2)
    return order[:count], order[::-1][:count]


def infused_rows(
    memory: MemoryFigures, classes: ClassTable, count: int = 12
) -> list[tuple[int, float, list[tuple[int, float]]]]:
    """(class, own coefficient, [(memory class, coefficient), ...]) of the ``count`` rarest."""
    order = np.argsort(classes.counts[memory.classes], kind="stable")[:count]
    return [
        (
            int(memory.classes[row]),
            float(memory.own[row]),
            list(
                zip(memory.infused[row].tolist(), memory.infused_values[row].tolist(), strict=True)
            ),
        )
        for row in order
    ]
