"""scikit-learn's own checks, also of the whole way through a correction."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import estimator_checks_generator

from alphafix import AlphaNetClassifier, ClassTable

pytestmark = pytest.mark.filterwarnings("ignore:nothing is corrected")


class FirstIsRare(AlphaNetClassifier):
    """Takes the first class for rare: the checks' own classes are all of the same size."""

    def _class_table(self, labels: Any) -> ClassTable:
        table = super()._class_table(labels)
        counts = np.where(np.arange(len(table)) == 0, 1, np.maximum(table.counts, 30))
        return ClassTable(table.names, counts)


def quick(kind: type[AlphaNetClassifier], estimator: Any) -> AlphaNetClassifier:
    # A large rho: one of the checks wants accuracy over all classes, two of three being frequent.
    return kind(estimator, n_neighbors=1, rho=2.0, n_trials=2, max_epochs=3, random_state=0)


CLASSIFIERS = [
    AlphaNetClassifier(random_state=0),
    quick(AlphaNetClassifier, RidgeClassifier()),
    quick(FirstIsRare, LogisticRegression()),
    quick(FirstIsRare, LinearDiscriminantAnalysis()),
    quick(FirstIsRare, LinearSVC(random_state=0)),
    quick(FirstIsRare, SGDClassifier()),
]


def named(value: Any) -> str:
    """The linear classifier, or the name of the check."""
    if isinstance(value, AlphaNetClassifier):
        return f"{type(value).__name__}-{type(value.estimator).__name__}"
    return str(getattr(value, "func", value).__name__)


@pytest.mark.parametrize(
    ("estimator", "check"),
    [pair for classifier in CLASSIFIERS for pair in estimator_checks_generator(classifier)],
    ids=named,
)
def test_check_estimator(estimator: Any, check: Any) -> None:
    check(estimator)


def test_first_is_rare__is_corrected() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    features = rng.normal(size=(60, 4)) + labels[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fitted = quick(FirstIsRare, LogisticRegression()).fit(features, labels)
    assert fitted.n_corrected_ == 1
    assert fitted.few_classes_.tolist() == [0]
