"""Linear classifiers of scikit-learn, through the Python API: ``coef_`` and ``intercept_``."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import numpy as np

from alphafix.errors import InputError
from alphafix.values.correction import Correction
from alphafix.values.head import Head

Estimator = TypeVar("Estimator")


def head_of(estimator: Any) -> Head:
    """Return the head of a fitted linear classifier; its classes are in ``classes_`` order.

    Raises:
        InputError: If it is not linear, not fitted, binary (one row for two classes), or a
            one-against-one classifier.
    """
    weight = getattr(estimator, "coef_", None)
    classes = getattr(estimator, "classes_", None)
    name = type(estimator).__name__
    if weight is None or classes is None:
        raise InputError(
            f"{name} is no fitted linear classifier",
            got="no coef_ and classes_",
            expected="an estimator like LogisticRegression, after fit",
            todo="fit it first; of a pipeline give the last step",
        )
    if not isinstance(weight, np.ndarray):
        raise InputError(
            f"the weights of {name} are sparse", todo="call its densify() first", got=type(weight)
        )
    if weight.shape[0] != len(classes):
        raise InputError(
            f"{name} has no row of its own for each class",
            got=f"coef_ {weight.shape} for {len(classes)} classes",
            expected="C x D with C >= 3, one row a class",
            todo="two classes share one row in scikit-learn, and one-against-one classifiers "
            "have a row a pair; neither can be corrected",
        )
    bias = np.broadcast_to(np.asarray(estimator.intercept_, dtype=np.float32), len(classes))
    return Head(weight.astype(np.float32), bias.copy())


def with_correction(estimator: Estimator, correction: Correction) -> Estimator:
    """Return a copy of a linear classifier with corrected rows, in its own element type.

    Raises:
        InputError: If it is no linear classifier, or the correction belongs to another one.
    """
    head = head_of(estimator)
    corrected = correction.apply(head)
    patched: Any = copy.deepcopy(estimator)
    classes = correction.classes
    patched.coef_[classes] = corrected.weight[classes]
    if correction.biases is not None:
        # Without fit_intercept there is one 0 for all classes.
        shape, dtype = len(head.weight), patched.coef_.dtype
        patched.intercept_ = np.array(np.broadcast_to(patched.intercept_, shape), dtype=dtype)
        patched.intercept_[classes] = correction.biases
    return patched  # type: ignore[no-any-return]
