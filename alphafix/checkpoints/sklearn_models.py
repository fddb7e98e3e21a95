"""Linear classifiers of scikit-learn, through the Python API: ``coef_`` and ``intercept_``."""

from __future__ import annotations

import copy
import warnings
from typing import Any, TypeVar

import numpy as np

from alphafix.errors import InputError, counted
from alphafix.values.correction import Correction
from alphafix.values.head import Head

Estimator = TypeVar("Estimator")


def head_of(estimator: Any) -> Head:
    """Return the head of a fitted linear classifier; its classes are in ``classes_`` order.

    Raises:
        InputError: If it is not linear, not fitted, binary (one row for two classes), or a
            one-against-one classifier, whose rows do not decide as it does itself.
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
            got=f"coef_ {weight.shape} for {counted(len(classes), 'class')}",
            expected="C x D with C >= 3, one row a class",
            todo="two classes share one row in scikit-learn, and one-against-one classifiers "
            "have a row a pair; neither can be corrected",
        )
    bias = np.broadcast_to(np.asarray(estimator.intercept_, dtype=np.float32), len(classes))
    head = Head(weight.astype(np.float32), bias.copy())
    _prove(estimator, head)
    return head


def _prove(estimator: Any, head: Head) -> None:
    """Check that the head decides as the estimator itself does, on points drawn at random.

    A one-against-one classifier of three classes has three rows, too: one a pair.
    """
    points = np.random.default_rng(0).normal(size=(_POINTS, head.width))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that these points have no names of columns
        own = np.asarray(estimator.predict(points))
        scores = getattr(estimator, "decision_function", lambda x: None)(points)
    logits = points @ head.weight.T.astype(np.float64) + head.bias_or_zeros
    rounding = _ROUNDING * np.abs(logits).max()
    best = logits.max(axis=1)
    of_own = logits[np.arange(_POINTS), [list(estimator.classes_).index(one) for one in own]]
    same = bool((best - of_own <= rounding).all())
    if scores is not None:
        same &= np.shape(scores) == logits.shape and np.allclose(
            scores, logits, rtol=0, atol=rounding
        )
    if not same:
        raise InputError(
            f"{type(estimator).__name__} does not decide by one row a class",
            got=f"other decisions than coef_ {head.weight.shape} and intercept_ give",
            expected="decision_function(x) = coef_ x + intercept_, and the class of its maximum",
            todo="one-against-one classifiers like SVC have a row a pair, and cannot be corrected; "
            "take LinearSVC, for example",
        )


# Points at which a head is held against its estimator, and what rounding to float32 may change of
# the largest score.
_POINTS = 32
_ROUNDING = 1e-4


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
