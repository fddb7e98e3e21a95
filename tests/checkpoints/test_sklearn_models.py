"""Linear classifiers of scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.svm import SVC, LinearSVC

from alphafix.checkpoints import head_of, with_correction
from alphafix.errors import InputError
from alphafix.values.correction import Correction
from tests.common import make_problem

PROBLEM = make_problem()
FEATURES, LABELS = PROBLEM.features["train"], PROBLEM.labels["train"]


@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(),
        LogisticRegression(fit_intercept=False),
        RidgeClassifier(),
        SGDClassifier(random_state=0),
        LinearSVC(),
        LinearDiscriminantAnalysis(),
    ],
    ids=lambda estimator: str(estimator),
)
def test_with_correction__decides_as_predicted(estimator: Any) -> None:
    fitted = estimator.fit(FEATURES, LABELS)
    head = head_of(fitted)
    few = PROBLEM.classes.few
    correction = Correction(few, 1.5 * head.weight[few], head.bias_or_zeros[few] + 1)
    before = fitted.decision_function(FEATURES)
    patched = with_correction(fitted, correction)
    np.testing.assert_allclose(
        patched.decision_function(FEATURES),
        correction.apply(head).logits(FEATURES),
        rtol=1e-4,
        atol=1e-4,
    )
    np.testing.assert_array_equal(fitted.decision_function(FEATURES), before)
    assert patched.coef_.dtype == fitted.coef_.dtype
    np.testing.assert_array_equal(patched.coef_[PROBLEM.classes.base], head_rows(fitted))


def head_rows(estimator: Any) -> np.ndarray:
    rows: np.ndarray = estimator.coef_[PROBLEM.classes.base]
    return rows


def test_head_of__refusals() -> None:
    with pytest.raises(InputError, match="no fitted linear classifier"):
        head_of(LogisticRegression())
    with pytest.raises(InputError, match="no fitted linear classifier"):
        head_of(RandomForestClassifier(n_estimators=1).fit(FEATURES, LABELS))
    with pytest.raises(InputError, match="no row of its own"):
        head_of(LogisticRegression().fit(FEATURES, LABELS < 2))
    with pytest.raises(InputError, match="no row of its own"):
        head_of(SVC(kernel="linear").fit(FEATURES, LABELS))
    sparse = SGDClassifier(random_state=0).fit(FEATURES, LABELS).sparsify()
    with pytest.raises(InputError, match="densify"):
        head_of(sparse)
