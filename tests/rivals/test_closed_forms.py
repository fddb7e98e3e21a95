"""Methods without training, each against a case worked out by hand or in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import NearestCentroid

from alphafix.metrics.trade_off import Contest
from alphafix.rivals import fit
from alphafix.rivals.closed_forms import nearest_class_mean, row_norms
from alphafix.rivals.data import predictions, unit
from alphafix.values.head import Head
from tests.common import make_problem
from tests.rivals.problems import data_of, small_data

EYE = np.eye(2, dtype=np.float32)


def test_few_bias__offset_between_the_gaps_that_matter() -> None:
    # Class 0 is few-split. Gaps (base minus few logit): few samples at 1 and 3, base samples
    # at 2 and 6. Passing 3 gains two samples and loses one, so that any limit allows it, and
    # passing 6 gains nothing more.
    few = np.array([[0, 1], [0, 3]], dtype=np.float32)
    base = np.array([[0, 2], [0, 6]], dtype=np.float32)
    features, labels = np.r_[few, base], np.array([0, 0, 1, 1])
    train = np.repeat(features, [1, 1, 20, 20], axis=0)
    train_labels = np.repeat(labels, [1, 1, 20, 20])
    for drop, low, high in ((100.0, 3, 6), (0.0, 3, 6)):
        data = data_of(train, train_labels, Head(EYE), val=(features, labels), drop=drop)
        assert low < fit("few-bias", data).settings["offset"] < high
    far = np.array([[0, 7]], dtype=np.float32)
    far_features, far_labels = np.r_[features, far], np.r_[labels, 0]
    # Passing 7 would gain the last few sample (2/5 -> 3/5 right) and lose both base samples.
    data = data_of(train, train_labels, Head(EYE), val=(far_features, far_labels), drop=0.0)
    assert fit("few-bias", data).settings["offset"] > 7


def test_few_bias__limit_binds() -> None:
    features = np.array([[0, 1], [0, 2], [0, 3], [0, 4], [0, 5]], dtype=np.float32)
    labels = np.array([1, 1, 1, 0, 1])
    train = np.repeat(features, [20, 20, 20, 1, 20], axis=0)
    data = data_of(
        train,
        np.repeat(labels, [20, 20, 20, 1, 20]),
        Head(EYE),
        val=(features, labels),
        drop=20.0,
    )
    # The few sample's gap is 4; three base samples (60 points) would be lost on the way to it.
    found = fit("few-bias", data)
    assert found.val["few"] == 0
    assert found.correction is not None
    assert found.correction.classes.tolist() == [0]


def test_contest__hand_computed() -> None:
    logits = np.array([[1, 5, 3], [4, 2, 9]], dtype=np.float32)
    found = Contest.of(logits, np.array([0, 2]), np.array([0]))
    assert found.gap.tolist() == [4, 5]
    assert found.few_right.tolist() == [True, False]
    assert found.base_right.tolist() == [False, True]


def test_tau_norm__rows_divided_by_their_norm_to_the_power() -> None:
    data = small_data()
    found = fit("tau-norm", data)
    tau = found.settings["tau"]
    assert found.correction is not None
    norms = np.linalg.norm(data.head.weight, axis=1, keepdims=True)
    expected = data.head.weight / norms**tau
    assert found.correction.rows == pytest.approx(expected, rel=1e-5)
    assert found.correction.biases is not None
    assert not found.correction.biases.any()


def test_tau_norm__undoes_rows_of_unequal_length() -> None:
    # Directions are right, but the rare class's row is ten times too short: tau = 1 mends it.
    weight = np.array([[0.1, 0], [0, 1]], dtype=np.float32)
    features = np.array([[2, 1], [1, 2]], dtype=np.float32)
    train = np.repeat(features, [2, 30], axis=0)
    data = data_of(
        train, np.repeat([0, 1], [2, 30]), Head(weight), val=(features, np.array([0, 1]))
    )
    assert data.base["few"] == 0
    found = fit("tau-norm", data)
    # 2 * 0.1^(1 - tau) > 1 from tau = 1 - log10(2) = 0.699 on.
    assert found.settings["tau"] == pytest.approx(0.7)
    assert found.val["few"] == found.val["overall"] == 100
    assert row_norms(data).tolist() == pytest.approx([0.1, 1])


def test_logit_adjustment__gives_equal_priors_to_a_bayes_head() -> None:
    # The head of `make_problem` is linear discriminant analysis with log training shares in
    # its biases, so that tau = 1 takes exactly these out.
    problem = make_problem(num_classes=12)
    data = small_data()
    found = fit("logit-adjustment", data)
    tau = found.settings["tau"]
    share = problem.classes.counts / problem.classes.counts.sum()
    assert found.correction is not None
    assert found.correction.biases is not None
    expected = data.head.bias_or_zeros - tau * np.log(share)
    assert found.correction.biases == pytest.approx(expected, abs=1e-5)
    assert (found.correction.rows == data.head.weight).all()
    assert tau > 0


@pytest.mark.parametrize("features", ["plain", "l2", "cl2"])
def test_ncm__as_scikit_learn(features: str) -> None:
    data = small_data()
    found = nearest_class_mean(data, features=features)
    center = data.features.mean(axis=0) if features == "cl2" else 0

    def mapped(values: np.ndarray) -> np.ndarray:
        centered = values.astype(np.float64) - center
        return centered if features == "plain" else unit(centered)

    peer = NearestCentroid().fit(mapped(data.features), data.labels)
    expected = peer.predict(mapped(data.val_features))
    assert (predictions(found.logits, data.val_features) == expected).all()


@pytest.mark.parametrize("features", ["plain", "l2", "cl2"])
def test_ncm__cosine_is_the_largest_product_with_a_mean(features: str) -> None:
    data = small_data()
    found = nearest_class_mean(data, features=features, distance="cosine")
    train = data.features.astype(np.float64)
    val = data.val_features.astype(np.float64)
    if features == "cl2":
        train, val = train - train.mean(axis=0), val - train.mean(axis=0)
    if features != "plain":
        train, val = unit(train), unit(val)
    means = np.stack([train[data.labels == c].mean(axis=0) for c in range(12)])
    assert found.correction is not None
    expected = (val @ means.T).argmax(axis=1)
    assert (predictions(found.logits, data.val_features) == expected).all()


def test_ncm__unit_is_the_largest_cosine() -> None:
    data = small_data()
    found = nearest_class_mean(data, features="plain", distance="unit")
    similarity = cosine_similarity(data.val_features.astype(np.float64), data.means)
    assert (predictions(found.logits, data.val_features) == similarity.argmax(axis=1)).all()


@pytest.mark.parametrize("few_only", [False, True])
def test_mean_directions__logits_are_the_formula(few_only: bool) -> None:
    data = small_data(scale=2.0)
    found = fit("mean-directions-few" if few_only else "mean-directions", data)
    s, t = found.settings["strength"], found.settings["offset"]
    means = np.stack([data.features[data.labels == c].mean(axis=0) for c in range(12)])
    center = means.mean(axis=0)
    added = s * (data.val_features - center) @ unit((means - center).astype(np.float64)).T
    few = np.isin(np.arange(12), data.classes.few)
    added[:, ~few] *= not few_only
    expected = data.head.logits(data.val_features) + added + t * few
    assert found.logits(data.val_features) == pytest.approx(expected, abs=1e-3)
    assert found.correction is not None
    changed = data.classes.few if few_only else np.arange(12)
    assert found.correction.classes.tolist() == changed.tolist()
