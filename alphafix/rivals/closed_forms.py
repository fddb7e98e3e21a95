"""Methods without training: closed forms of the head and the class means, and a scalar or two."""

from __future__ import annotations

from functools import partial

import numpy as np

from alphafix.metrics.trade_off import Path
from alphafix.rivals.data import FitData, Fitted, Offered, class_means, linear, unit
from alphafix.values.arrays import FloatArray, FloatArray64

# Kang et al. search tau in 0..1; the head of a model that was balanced before may need more.
TAUS = np.linspace(0, 2, 41)


def few_bias(data: FitData) -> Offered:
    """z'_c = z_c + s for few-split c, s chosen on validation (the control of glyphs.md).

    Accuracy changes only where s crosses a sample's gap between its best base and best
    few-split logit, so that all values of s are tried.
    """
    head, few = data.head, data.classes.few

    def build(_: int, offset: float) -> Fitted:
        return linear(
            "few-bias",
            data,
            head.weight[few] * head.scale,
            head.bias_or_zeros[few] * head.scale + offset,
            classes=few,
            settings={"offset": offset},
        )

    return Offered("few-bias", [Path(data.contest_of(head.logits), free=True)], build)


def tau_norm(data: FitData) -> Offered:
    """w'_c = w_c / ||w_c||^tau without bias (Kang et al. 2020); tau on validation."""
    plain = data.val_features @ data.head.weight.T * np.float32(data.head.scale)
    norms = row_norms(data)

    def build(place: int, _: float) -> Fitted:
        tau = TAUS[place]
        rows = data.head.weight * data.head.scale / norms[:, None] ** tau
        settings = {"tau": round(float(tau), 3)}
        return linear("tau-norm", data, rows, np.zeros(len(rows)), settings=settings)

    paths = [Path(data.contest(plain / norms**tau)) for tau in TAUS]
    return Offered("tau-norm", paths, build)


def row_norms(data: FitData) -> FloatArray64:
    """||w_c||, 1 for a row of zeros, float64 of shape C."""
    norms = np.linalg.norm(data.head.weight.astype(np.float64), axis=1)
    return np.asarray(np.where(norms == 0, 1, norms))


def logit_adjustment(data: FitData) -> Offered:
    """z'_c = z_c - tau log pi_c with pi the training shares; tau on validation.

    Menon et al. 2021, section 4.2 (post-hoc logit adjustment).
    """
    head = data.head
    plain, prior = head.logits(data.val_features), np.log(data.prior)

    def build(place: int, _: float) -> Fitted:
        tau = TAUS[place]
        return linear(
            "logit-adjustment",
            data,
            head.weight * head.scale,
            head.bias_or_zeros * head.scale - tau * prior,
            settings={"tau": round(float(tau), 3)},
        )

    paths = [Path(data.contest(plain - tau * prior)) for tau in TAUS]
    return Offered("logit-adjustment", paths, build)


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
