"""Methods without training: closed forms of the head and the class means, and a scalar or two."""

from __future__ import annotations

from functools import partial

import numpy as np

from alphafix.metrics.trade_off import Contest, Curve, best_offset, trade_off
from alphafix.rivals.data import FitData, Fitted, class_means, linear, unit
from alphafix.values.arrays import FloatArray, FloatArray64

# Kang et al. search tau in 0..1; the head of a model that was balanced before may need more.
TAUS = np.linspace(0, 2, 41)

# Multiples of the strength at which the directions' scores vary as much as the logits do.
STRENGTHS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0)


def few_bias(data: FitData) -> Fitted:
    """z'_c = z_c + s for few-split c, s chosen on validation (the control of glyphs.md).

    Accuracy changes only where s crosses a sample's gap between its best base and best
    few-split logit, so that all values of s are tried.
    """
    head, few = data.head, data.classes.few
    found = best_few_offset(data, head.logits(data.val_features))
    return linear(
        "few-bias",
        data,
        head.weight[few] * head.scale,
        head.bias_or_zeros[few] * head.scale + found,
        classes=few,
        settings={"offset": found},
    )


def best_few_offset(data: FitData, logits: FloatArray) -> float:
    """The offset of few-split logits that the rule likes best; 0 if it allows none.

    Args:
        data: Whose validation labels and rule count.
        logits: Logits of the validation samples, n x C.
    """
    curve = _offset_curve(data, logits)
    position = best_offset(curve, data.rule)
    return 0.0 if position is None else float(curve.offsets[position])


def _offset_curve(data: FitData, logits: FloatArray) -> Curve:
    """Validation accuracy of each split at every offset that makes a difference."""
    return trade_off(Contest.of(logits, data.val_labels, data.classes.few), data.classes)


def tau_norm(data: FitData) -> Fitted:
    """w'_c = w_c / ||w_c||^tau without bias (Kang et al. 2020, Eq. 2); tau on validation."""
    plain = data.val_features @ data.head.weight.T
    norms = row_norms(data)
    tau, _ = data.best(TAUS, lambda tau: (plain / norms**tau).argmax(axis=1).astype(np.int64))
    rows = data.head.weight * data.head.scale / norms[:, None] ** tau
    return linear(
        "tau-norm", data, rows, np.zeros(len(rows)), settings={"tau": round(float(tau), 3)}
    )


def row_norms(data: FitData) -> FloatArray64:
    """||w_c||, 1 for a row of zeros, float64 of shape C."""
    norms = np.linalg.norm(data.head.weight.astype(np.float64), axis=1)
    return np.asarray(np.where(norms == 0, 1, norms))


def logit_adjustment(data: FitData) -> Fitted:
    """z'_c = z_c - tau log pi_c with pi the training shares; tau on validation.

    Menon et al. 2021, section 4.2 (post-hoc logit adjustment).
    """
    head = data.head
    plain, prior = head.logits(data.val_features), np.log(data.prior)
    tau, _ = data.best(TAUS, lambda tau: (plain - tau * prior).argmax(axis=1).astype(np.int64))
    return linear(
        "logit-adjustment",
        data,
        head.weight * head.scale,
        head.bias_or_zeros * head.scale - tau * prior,
        settings={"tau": round(float(tau), 3)},
    )


def mean_directions(data: FitData, *, few_only: bool = False) -> Fitted:
    """z'_c = z_c + s (x - mu).m_c + t [c is few-split], m_c = (mean_c - mu)/||mean_c - mu||.

    A linear head again: rows w_c + s m_c, biases b_c - s mu.m_c + t. mu is the mean of the
    class means, which does not depend on how frequent a class is. The strength s and the
    few-split scalar t are chosen on validation, t exactly for each s (see `few_bias`).

    Args:
        data: What to fit on.
        few_only: Change the rows of few-split classes only (base rows stay untouched).
    """
    head, classes = data.head, data.classes
    changed = classes.few if few_only else np.arange(len(classes))
    plain = head.logits(data.val_features)
    center = data.means.mean(axis=0)
    directions = unit(data.means - center)
    added = np.zeros(plain.shape, dtype=np.float64)
    added[:, changed] = (data.val_features - center) @ directions[changed].T
    unit_strength = float(plain.std() / (added[:, changed].std() or 1.0))
    found = [_with_offset(data, plain + s * unit_strength * added) for s in STRENGTHS]
    place = max(range(len(found)), key=lambda i: found[i][0])
    strength, extra = STRENGTHS[place] * unit_strength, found[place][1]
    rows = head.weight * head.scale + strength * directions
    biases = head.bias_or_zeros * head.scale - strength * directions @ center
    biases[classes.few] += extra
    return linear(
        "mean-directions-few" if few_only else "mean-directions",
        data,
        rows[changed],
        biases[changed],
        classes=changed,
        settings={"strength": strength, "offset": extra},
    )


def _with_offset(data: FitData, logits: FloatArray64) -> tuple[tuple[bool, float], float]:
    """How good these logits get with the best few-split offset, and that offset."""
    curve = _offset_curve(data, logits.astype(np.float32))
    position = best_offset(curve, data.rule)
    if position is None:
        position = curve.nearest(0.0)
    return data.goodness(curve.at(position)), float(curve.offsets[position])


def nearest_class_mean(
    data: FitData, *, features: str = "cl2", distance: str = "euclidean"
) -> Fitted:
    """The class whose mean is nearest (Kang et al. 2020, section 4.2, and their code).

    Args:
        data: What to fit on.
        features: "plain", "l2" (unit length), or "cl2" (the global mean subtracted, then unit
            length), before the means are taken.
        distance: "euclidean"; "cosine", the largest x.m_c with means that are not normalised
            again, which is what their code calls so; or "unit", the cosine of x and m_c.

    With plain features ||x - m_c||^2 = ||x||^2 - 2 (x.m_c - ||m_c||^2 / 2), so that the nearest
    mean is the largest x.m_c - ||m_c||^2 / 2: a linear head. With cosine distance the length of
    the feature is common to all classes, so that (x - mu).m_c ranks the same: linear too. Only
    Euclidean distance of normalised features is not.
    """
    name = "ncm-cosine" if distance == "unit" else f"ncm-{features}"
    center = data.features.mean(axis=0, dtype=np.float64) if features == "cl2" else 0.0
    center = np.broadcast_to(center, data.features.shape[1:])
    means = class_means(_mapped(data.features, features, center), data.labels, len(data.classes))
    if distance == "cosine":
        return linear(f"{name}-cosine", data, means, -means @ center)
    if distance == "unit":
        return linear(name, data, unit(means), -unit(means) @ center)
    if features == "plain":
        return linear(name, data, means, -0.5 * (means**2).sum(axis=1))
    logits = partial(_nearest_mean_logits, features=features, center=center, means=means)
    return Fitted(name, logits, {}, data.validate(logits))


def _mapped(values: FloatArray, features: str, center: FloatArray64) -> FloatArray64:
    """Features as the variant wants them, float64 of shape n x D."""
    centered = values.astype(np.float64) - center
    return centered if features == "plain" else unit(centered)


def _nearest_mean_logits(
    values: FloatArray, *, features: str, center: FloatArray64, means: FloatArray64
) -> FloatArray:
    """-||x - m_c||^2 / 2 up to a constant of the sample, float32 of shape n x C."""
    mapped = _mapped(values, features, center)
    return np.asarray(mapped @ means.T - 0.5 * (means**2).sum(axis=1), dtype=np.float32)
