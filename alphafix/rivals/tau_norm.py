"""tau-normalisation of the head's rows."""

from __future__ import annotations

import numpy as np

from alphafix.rivals.material import Fitted, Material, linear
from alphafix.values.arrays import FloatArray64

# Kang et al. search 0..1; the head of a model that was balanced before may need more.
TAUS = np.linspace(0, 2, 41)


def fit(material: Material) -> Fitted:
    """w'_c = w_c / ||w_c||^tau without bias (Kang et al. 2020, Eq. 2); tau on validation."""
    plain = material.val_features @ material.head.weight.T
    norms = row_norms(material)
    tau, _ = material.best(TAUS, lambda tau: (plain / norms**tau).argmax(axis=1).astype(np.int64))
    rows = material.head.weight * material.head.scale / norms[:, None] ** tau
    return linear(
        "tau-norm", material, rows, np.zeros(len(rows)), settings={"tau": round(float(tau), 3)}
    )


def row_norms(material: Material) -> FloatArray64:
    """||w_c||, 1 for a row of zeros, float64 of shape C."""
    norms = np.linalg.norm(material.head.weight.astype(np.float64), axis=1)
    return np.asarray(np.where(norms == 0, 1, norms))
