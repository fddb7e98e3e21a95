"""One scalar on all few-split logits: the honest control for any correction."""

from __future__ import annotations

import numpy as np

from alphafix.metrics.trade_off import Contest, Curve, best_offset, trade_off
from alphafix.rivals.material import CHUNK, Fitted, Material, linear
from alphafix.values.arrays import FloatArray, IntArray


def fit(material: Material) -> Fitted:
    """z'_c = z_c + s for few-split c, s chosen on validation (the control of glyphs.md).

    Accuracy changes only where s crosses a sample's gap between its best base and best
    few-split logit, so that all values of s are tried.
    """
    found = offset(material, material.val_logits(material.head.logits))
    few = material.classes.few
    rows, biases = material.head.weight[few], material.head.bias_or_zeros[few]
    scale = material.head.scale
    return linear(
        "few-bias",
        material,
        rows * scale,
        biases * scale + found,
        classes=few,
        settings={"offset": found},
    )


def offset(material: Material, logits: FloatArray) -> float:
    """The offset of few-split logits that the rule likes best; 0 if it allows none.

    Args:
        material: Whose validation labels and rule count.
        logits: Logits of the validation samples, n x C.
    """
    curve = offset_curve(material, logits)
    position = best_offset(curve, material.rule.goodness)
    return 0.0 if position is None else float(curve.offsets[position])


def offset_curve(material: Material, logits: FloatArray) -> Curve:
    """Validation accuracy of each split at every offset that makes a difference."""
    return trade_off(contest(logits, material.val_labels, material.classes.few), material.classes)


def contest(logits: FloatArray, labels: IntArray, few: IntArray) -> Contest:
    """The best few-split class of each sample against its best base class."""
    is_few = np.zeros(logits.shape[1], dtype=np.bool_)
    is_few[few] = True
    gaps, few_right, base_right = [], [], []
    for start in range(0, len(logits), CHUNK):
        part = logits[start : start + CHUNK]
        own = labels[start : start + CHUNK]
        best_few = np.where(is_few, part, -np.inf)
        best_base = np.where(is_few, -np.inf, part)
        gaps.append(best_base.max(axis=1) - best_few.max(axis=1))
        few_right.append(best_few.argmax(axis=1) == own)
        base_right.append(best_base.argmax(axis=1) == own)
    return Contest(
        np.concatenate(gaps).astype(np.float32),
        np.concatenate(few_right),
        np.concatenate(base_right),
        labels,
    )
