"""One-against-all linear support vector machines."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import numpy as np

from alphafix.values.arrays import FloatArray, IntArray

# The usual penalty of an error, for features of length one on average (see below).
PENALTY = 1.0


def support_vector_rows(
    features: FloatArray,
    samples: Iterable[tuple[IntArray, IntArray]],
    *,
    penalty: float = PENALTY,
    seed: int = 0,
) -> FloatArray:
    """Rows and biases of R machines, float32 of shape R x (D + 1).

    Each minimises 1/2 |(w, b)|^2 + penalty sum_i [1 - y_i (w.x_i + b)]_+ over its samples (Hsieh et
    al. 2008), with features divided by their mean length: the penalty means the same in
    any units. The rows are those for features as they are.

    Args:
        features: N x D features.
        samples: Numbers of each machine's samples: those of its class, and others.
        penalty: C.
        seed: Decides the order of the solver's steps.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    unit = float(np.linalg.norm(features, axis=1).mean()) or 1.0
    rows = []
    with warnings.catch_warnings():
        # An objective that is near its minimum is enough.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for own, others in samples:
            x = features[np.concatenate([own, others])] / np.float32(unit)
            y = np.repeat([1, -1], [len(own), len(others)])
            machine = LinearSVC(loss="hinge", C=penalty, tol=1e-3, random_state=seed).fit(x, y)
            rows.append(np.append(machine.coef_[0] / unit, machine.intercept_))
    return np.stack(rows).astype(np.float32)
