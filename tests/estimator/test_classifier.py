"""AlphaNetClassifier: what it corrects, and how it behaves among scikit-learn's tools."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Perceptron
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import alphafix
from alphafix import AlphaNetClassifier
from alphafix.checkpoints import head_of
from alphafix.errors import InputError
from tests.common import make_problem

PROBLEM = make_problem(num_classes=16, width=10, spread=1.5)
X, IDS = PROBLEM.features["train"], PROBLEM.labels["train"]
NAMES = np.array([f"kind {chr(97 + i)}" for i in range(16)])
Y = NAMES[IDS]
TEST_X, TEST_Y = PROBLEM.features["test"], NAMES[PROBLEM.labels["test"]]


def quick(estimator: Any = None, **parameters: Any) -> AlphaNetClassifier:
    return AlphaNetClassifier(
        estimator, **{"n_trials": 2, "max_epochs": 6, "random_state": 0, **parameters}
    )


def test_fit__changes_the_rare_rows_and_no_others() -> None:
    fitted = quick(LogisticRegression()).fit(X, Y)
    before, after = fitted.base_estimator_, fitted.estimator_
    rare = np.isin(fitted.classes_, fitted.few_classes_)
    assert fitted.few_classes_.tolist() == NAMES[PROBLEM.classes.few].tolist()
    assert fitted.n_corrected_ == 4
    assert (before.coef_[rare] != after.coef_[rare]).any(axis=1).all()
    np.testing.assert_array_equal(before.coef_[~rare], after.coef_[~rare])
    np.testing.assert_array_equal(before.intercept_[~rare], after.intercept_[~rare])
    np.testing.assert_array_equal(before.coef_, LogisticRegression().fit(X, Y).coef_)


def test_fit__rare_classes_gain_and_frequent_ones_pay() -> None:
    problem = make_problem(num_classes=16, width=10)
    fitted = AlphaNetClassifier(rho=0.5, random_state=0)
    fitted.fit(problem.features["train"], problem.labels["train"])
    features, labels = problem.features["test"], problem.labels["test"]
    rare = np.isin(labels, fitted.few_classes_)
    base, corrected = fitted.base_estimator_, fitted.estimator_
    assert corrected.score(features[rare], labels[rare]) > 0.4
    assert base.score(features[rare], labels[rare]) < 0.25
    frequent = [model.score(features[~rare], labels[~rare]) for model in (base, corrected)]
    # 120 frequent samples: one is 0.8 points, and a processor that rounds otherwise moves a few.
    assert frequent[0] > frequent[1] > frequent[0] - 0.15


def test_fit__is_the_training_of_the_python_api() -> None:
    fitted = quick(LogisticRegression()).fit(X, Y)
    assert fitted.correction_ is not None
    assert fitted.correction_.trials is not None
    seeds = [record.seed for record in fitted.correction_.trials.records]
    table = alphafix.ClassTable.of(IDS)
    head = head_of(LogisticRegression().fit(X, Y))
    found = alphafix.train((X, IDS), head, table, seeds=2, seed=seeds[0], epochs=6)
    np.testing.assert_array_equal(found.rows, fitted.correction_.rows)


def test_fit__same_seed_same_rows() -> None:
    fits = [quick(random_state=seed).fit(X, Y) for seed in (0, 0, 1)]
    first, again, other = (fitted.estimator_.coef_ for fitted in fits)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_predict__agrees_with_decisions_and_probabilities() -> None:
    fitted = quick(LogisticRegression()).fit(X, Y)
    scores, chances = fitted.decision_function(TEST_X), fitted.predict_proba(TEST_X)
    np.testing.assert_array_equal(fitted.predict(TEST_X), fitted.classes_[scores.argmax(axis=1)])
    np.testing.assert_allclose(chances.sum(axis=1), 1, rtol=1e-6)
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    np.testing.assert_allclose(chances, odds / odds.sum(axis=1, keepdims=True), rtol=1e-6)
    np.testing.assert_allclose(fitted.predict_log_proba(TEST_X), np.log(chances), rtol=1e-6)


def test_predict_proba__only_where_the_linear_classifier_has_it() -> None:
    assert hasattr(quick(LinearDiscriminantAnalysis()), "predict_proba")
    assert not hasattr(quick(Perceptron()), "predict_proba")
    assert not hasattr(quick(Perceptron()).fit(X, Y), "predict_proba")
    assert hasattr(quick(Perceptron()), "decision_function")


def test_holdout__fits_on_the_rest_and_chooses_on_it() -> None:
    base = LogisticRegression(C=0.01)
    fitted = quick(base, holdout=0.25, rho=[0.1, 2.0], few_below=60).fit(X, Y)
    assert fitted.correction_ is not None
    chosen = fitted.correction_.chosen.to_dict()
    assert chosen["rho"] in (0.1, 2.0)
    assert chosen["val"]["few"] is not None
    assert (fitted.base_estimator_.coef_ != base.fit(X, Y).coef_).any()
    # What is rare is decided by all samples, held out or not.
    np.testing.assert_array_equal(fitted.class_table_.counts, np.bincount(IDS))


def test_method__another_one_chooses_on_the_samples_held_out() -> None:
    more = {"max_overall_drop": 20.0, "confidence": 0.5, "method": "lda"}
    fitted = quick(LogisticRegression(), holdout=0.25, **more).fit(X, Y)
    assert fitted.correction_ is not None
    assert fitted.correction_.method == "lda"
    rare = np.isin(Y, fitted.few_classes_)
    before, after = fitted.base_estimator_, fitted.estimator_
    assert after.score(X[rare], Y[rare]) > before.score(X[rare], Y[rare])


def test_method__says_what_it_needs() -> None:
    with pytest.raises(InputError, match="chooses its settings on samples held out"):
        quick(method="lda").fit(X, Y)
    with pytest.raises(InputError, match="there is no method ldda"):
        quick(method="ldda", holdout=0.2).fit(X, Y)


def test_max_overall_drop__is_kept_on_the_samples_held_out() -> None:
    base, limit = LogisticRegression(C=0.01), {"max_overall_drop": 1.0, "few_below": 60}
    fitted = quick(base, holdout=0.25, rho=[0.1, 1.0], confidence=0.5, **limit).fit(X, Y)
    assert fitted.correction_ is not None
    chosen = fitted.correction_.chosen.to_dict()
    assert chosen["val_base"]["overall"] - chosen["val"]["overall"] <= 1.0 + 1e-9
    assert chosen["val"]["few"] >= chosen["val_base"]["few"]


@pytest.mark.parametrize("more", [{}, {"max_overall_drop": 1.0}])
def test_holdout__a_correction_that_is_worse_there_is_not_shipped(more: dict[str, Any]) -> None:
    # The held-out samples of the rare classes are few and stay wrong; frequent ones get worse.
    classifier = quick(LogisticRegression(), holdout=0.25, rho=[0.1, 2.0], **more)
    with pytest.warns(UserWarning, match="no correction beats it on validation"):
        fitted = classifier.fit(X, Y)
    assert not fitted.corrected_
    assert fitted.n_corrected_ == 0
    assert fitted.estimator_ is fitted.base_estimator_


@pytest.mark.parametrize("seed", range(2))
def test_fit__a_correction_that_is_worse_in_training_is_not_shipped(seed: int) -> None:
    # One neighbour and one trial, so that alpha is 1 or -1: the row of the rare class, between the
    # others, jumps too far. Which of both it is, and whether two trials cancel each other, is of
    # the processor's arithmetic.
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(4), [10, 50, 50, 50])
    centers = 4 * np.array([[0.5, 0.5], [0, 0], [1, 0], [0, 1]])
    features = rng.normal(size=(160, 2)) + centers[labels]
    classifier = quick(
        LinearDiscriminantAnalysis(), n_neighbors=1, rho=2.0, max_epochs=1, n_trials=1
    )
    with pytest.warns(UserWarning, match="is worse than it on the training samples"):
        fitted = classifier.fit(features, labels)
    assert not fitted.corrected_
    assert fitted.score(features, labels) == fitted.base_estimator_.score(features, labels) > 0.9
    assert quick().fit(X, Y).corrected_


def test_frozen__is_corrected_as_it_was_fitted() -> None:
    base = LogisticRegression().fit(X, Y)
    rows = base.coef_.copy()
    fitted = quick(FrozenEstimator(base)).fit(X[::2], Y[::2])
    np.testing.assert_array_equal(base.coef_, rows)
    np.testing.assert_array_equal(fitted.base_estimator_.coef_, rows)
    assert type(fitted.estimator_) is LogisticRegression
    assert (fitted.estimator_.coef_ != rows).any()
    with pytest.raises(InputError, match="does not know all classes"):
        quick(FrozenEstimator(base)).fit(X, np.where(Y == "kind a", "another", Y))


def test_frozen__with_column_names_gets_them() -> None:
    pandas = pytest.importorskip("pandas")
    columns = [f"feature {i}" for i in range(X.shape[1])]
    table, test = pandas.DataFrame(X, columns=columns), pandas.DataFrame(TEST_X, columns=columns)
    base = LogisticRegression().fit(table, Y)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fitted = quick(FrozenEstimator(base)).fit(table, Y)
        fitted.predict(test)
    assert fitted.feature_names_in_.tolist() == columns
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(test[columns[::-1]])


def test_pipeline__corrects_on_scaled_features() -> None:
    pipeline = make_pipeline(StandardScaler(), quick()).fit(X, Y)
    assert pipeline[-1].n_corrected_ == 4
    scaled = pipeline[0].transform(TEST_X)
    np.testing.assert_array_equal(pipeline.predict(TEST_X), pipeline[-1].predict(scaled))


def test_grid_search__over_rho_and_the_base_estimator() -> None:
    grid = {"rho": [0.1, 2.0], "estimator__C": [0.1, 1.0]}
    search = GridSearchCV(quick(LogisticRegression()), grid, cv=2, scoring="balanced_accuracy")
    search.fit(X, Y)
    assert len(search.cv_results_["mean_test_score"]) == 4
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.n_corrected_ == 4
    assert search.best_params_["estimator__C"] == search.best_estimator_.estimator_.C


def test_joblib__dump_predicts_the_same(tmp_path: Path) -> None:
    fitted = quick().fit(X, Y)
    joblib.dump(fitted, tmp_path / "model.joblib")
    loaded = joblib.load(tmp_path / "model.joblib")
    np.testing.assert_array_equal(
        loaded.decision_function(TEST_X), fitted.decision_function(TEST_X)
    )
    np.testing.assert_array_equal(loaded.correction_.rows, fitted.estimator_.coef_[12:])


def test_clone__has_parameters_and_nothing_fitted() -> None:
    copied = clone(quick(LogisticRegression(C=0.3)).fit(X, Y))
    assert copied.estimator.C == 0.3
    assert not hasattr(copied, "estimator_")


@pytest.mark.parametrize(
    ("parameters", "labels", "why"),
    [
        ({}, IDS < 8, "2 classes, and in scikit-learn two classes share one row"),
        ({"few_below": 3}, Y, "every class has at least 3 samples"),
        ({"n_neighbors": 12}, Y, "12 classes have at least 20 samples"),
        ({"few_below": 1000, "many_above": 1000}, Y, "0 classes have at least 1000 samples"),
    ],
)
def test_fit__nothing_to_correct_warns_and_is_the_linear_classifier(
    parameters: dict[str, Any], labels: Any, why: str
) -> None:
    with pytest.warns(UserWarning, match=f"nothing is corrected: {why}"):
        fitted = quick(LogisticRegression(), **parameters).fit(X, labels)
    assert fitted.n_corrected_ == 0
    assert fitted.correction_ is None
    plain = LogisticRegression().fit(X, labels)
    np.testing.assert_array_equal(fitted.decision_function(TEST_X), plain.decision_function(TEST_X))


@pytest.mark.parametrize(
    "estimator", [RandomForestClassifier(n_estimators=2), SVC(kernel="linear")]
)
def test_fit__estimator_without_a_row_a_class_is_refused(estimator: Any) -> None:
    with pytest.raises(InputError, match=r"no fitted linear classifier|no row of its own"):
        quick(estimator).fit(X, Y)


@pytest.mark.parametrize(
    "parameters",
    [
        {"rho": -1.0},
        {"n_trials": 0},
        {"max_epochs": 0},
        {"holdout": 1.5},
        {"n_neighbors": 0},
        {"few_below": 0},
        {"few_below": 50, "many_above": 10},
        {"metric": "manhattan"},
        {"device": "abacus"},
        {"rho": [0.1, 0.5]},
        {"max_overall_drop": 1.0},
    ],
)
def test_fit__parameter_out_of_range_is_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        quick(**parameters).fit(X, Y)


def test_fit__sparse_features_are_refused_by_scikit_learn() -> None:
    with pytest.raises(TypeError, match="dense data is required"):
        quick().fit(csr_matrix(X), Y)
    assert not quick().__sklearn_tags__().input_tags.sparse
