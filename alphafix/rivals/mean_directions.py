"""The head plus a multiple of each class's mean direction."""

from __future__ import annotations

import numpy as np

from alphafix.metrics.trade_off import best_offset
from alphafix.rivals.few_bias import offset_curve
from alphafix.rivals.material import Fitted, Material, linear, unit
from alphafix.values.arrays import FloatArray64

# Multiples of the strength at which the directions' scores vary as much as the logits do.
STRENGTHS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0)


def fit(material: Material, *, few_only: bool = False) -> Fitted:
    """z'_c = z_c + s (x - mu).m_c + t [c is few-split], m_c = (mean_c - mu)/||mean_c - mu||.

    A linear head again: rows w_c + s m_c, biases b_c - s mu.m_c + t. mu is the mean of the
    class means, which does not depend on how frequent a class is. The strength s and the
    few-split scalar t are chosen on validation, t exactly for each s (see `few_bias`).

    Args:
        material: What to fit on.
        few_only: Change the rows of few-split classes only (base rows stay untouched).
    """
    head, classes = material.head, material.classes
    changed = classes.few if few_only else np.arange(len(classes))
    plain = material.val_logits(head.logits)
    directions, center = class_directions(material)
    added = np.zeros(plain.shape, dtype=np.float64)
    added[:, changed] = (material.val_features - center) @ directions[changed].T
    unit_strength = float(plain.std() / (added[:, changed].std() or 1.0))
    found = [_with_offset(material, plain + s * unit_strength * added) for s in STRENGTHS]
    place = max(range(len(found)), key=lambda i: found[i][0])
    strength, extra = STRENGTHS[place] * unit_strength, found[place][1]
    rows = head.weight * head.scale + strength * directions
    biases = head.bias_or_zeros * head.scale - strength * directions @ center
    biases[classes.few] += extra
    return linear(
        "mean-directions-few" if few_only else "mean-directions",
        material,
        rows[changed],
        biases[changed],
        classes=changed,
        settings={"strength": strength, "offset": extra},
    )


def class_directions(material: Material) -> tuple[FloatArray64, FloatArray64]:
    """m_c (C x D) and mu (D)."""
    center = material.means.mean(axis=0)
    return unit(material.means - center), center


def _with_offset(material: Material, logits: FloatArray64) -> tuple[tuple[bool, float], float]:
    """How good these logits get with the best few-split offset, and that offset."""
    curve = offset_curve(material, logits.astype(np.float32))
    position = best_offset(curve, material.rule.goodness)
    if position is None:
        position = curve.nearest(0.0)
    return material.goodness(curve.at(position)), float(curve.offsets[position])
