"""The discriminant: against scikit-learn where it is the same, plain NumPy, and bad input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from alphafix.errors import FileFormatError
from alphafix.features.features import Features
from alphafix.features.scatter import WithinClass, directions
from alphafix.features.store import FeatureStore
from alphafix.features.writer import FeatureWriter
from alphafix.metrics.limits import Limits
from alphafix.metrics.trade_off import Contest
from alphafix.rivals import LINEAR_METHODS, RIVALS, fit, fit_method
from alphafix.rivals.auto import correction_of
from alphafix.rivals.data import FitData, choose, unit
from alphafix.rivals.discriminant import TAUS, Family
from alphafix.values.arrays import FloatArray, FloatArray64, IntArray
from alphafix.values.classes import ClassTable
from alphafix.values.head import Head
from tests.rivals.problems import data_of, small_data


def drawn(counts: list[int], width: int = 6, seed: int = 0) -> tuple[FloatArray, IntArray]:
    """Samples of classes that lie apart, with correlated features."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    mixing = rng.standard_normal((width, width))
    means = 2 * rng.standard_normal((len(counts), width))
    rows = means[labels] + rng.standard_normal((len(labels), width)) @ mixing
    return rows.astype(np.float32), labels


def scatter_of(rows: FloatArray, labels: IntArray, classes: list[int]) -> FloatArray64:
    """The class-balanced covariance, class by class."""
    parts = [np.cov(rows[labels == c].T.astype(np.float64), bias=True) for c in classes]
    return np.asarray(np.mean(parts, axis=0))


def test_within_class__classes_alike_whatever_their_size() -> None:
    rows, labels = drawn([3000, 40, 7])
    labels[5:9] = -1  # of no class
    found = Features.of(rows, labels, num_classes=4).within_class(np.array([0, 1, 3]))
    assert found.covariance == pytest.approx(scatter_of(rows, labels, [0, 1]), rel=1e-5, abs=1e-6)
    assert 0 < found.shrinkage < 0.1


@pytest.mark.parametrize("count", [5, 40])
def test_within_class__shrinkage_of_scikit_learn(count: int) -> None:
    rows, labels = drawn([count] * 3, width=20)
    found = Features.of(rows, labels).within_class(np.arange(3))
    centered = rows - np.stack([rows[labels == c].mean(axis=0) for c in range(3)])[labels]
    _, expected = ledoit_wolf(centered.astype(np.float64), assume_centered=True)
    assert found.shrinkage == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("solver", ["lsqr", "eigen"])
def test_directions__rows_of_scikit_learn(solver: str) -> None:
    rows, labels = drawn([60, 30, 90])
    features = Features.of(rows, labels)
    centered = features.class_means() - features.class_means().mean(axis=0)
    within = features.within_class(np.arange(3))
    found = directions(within, 0.3, centered)
    peer = LinearDiscriminantAnalysis(solver=solver, shrinkage=0.3, priors=np.full(3, 1 / 3))
    peer.fit(rows.astype(np.float64), labels)
    # The same rows but for their length, and for what all classes have in common.
    assert found == pytest.approx(unit_in_metric(peer.coef_, centered, within), rel=1e-5)


def unit_in_metric(coef: FloatArray64, centered: FloatArray64, within: WithinClass) -> FloatArray64:
    """Rows P^-1 v as d, where P is in units of the mean variance."""
    rows = (coef - coef.mean(axis=0)) * np.trace(within.covariance) / len(within.covariance)
    return np.asarray(rows / np.sqrt((rows * centered).sum(axis=1))[:, None])


def test_directions__all_shrunken_are_mean_directions() -> None:
    rows, labels = drawn([60, 30, 90])
    means = Features.of(rows, labels).class_means()
    centered = means - means.mean(axis=0)
    within = Features.of(rows, labels).within_class(np.arange(3))
    assert directions(within, 1.0, centered) == pytest.approx(unit(centered))


@pytest.mark.parametrize("few_only", [False, True])
def test_lda__logits_are_the_formula(few_only: bool) -> None:
    data = small_data(scale=2.0)
    name = "lda-few" if few_only else "lda"
    found = fit(name, data)
    gamma, s, tau, t = (found.settings[k] for k in ("shrinkage", "strength", "tau", "offset"))
    classes, x, y = data.classes, data.features.astype(np.float64), data.labels
    means = np.stack([x[y == c].mean(axis=0) for c in range(12)])
    center = means.mean(axis=0)
    covariance = scatter_of(data.features, y, classes.base.tolist())
    metric = (1 - gamma) * covariance * 8 / np.trace(covariance) + gamma * np.eye(8)
    rows = (means - center) @ np.linalg.inv(metric)
    rows /= np.sqrt((rows * (means - center)).sum(axis=1))[:, None]
    added = s * (data.val_features - center) @ rows.T - tau * np.log(data.prior)
    few = np.isin(np.arange(12), classes.few)
    added[:, ~few] *= not few_only
    expected = data.head.logits(data.val_features) + added + t * few
    assert found.logits(data.val_features) == pytest.approx(expected, abs=1e-3)
    assert found.correction is not None
    assert found.correction.classes.tolist() == np.flatnonzero(few | (not few_only)).tolist()
    assert found.correction.method == name
    assert tau == 0 or not few_only
    assert name in LINEAR_METHODS


@pytest.mark.parametrize("few_only", [False, True])
def test_family__every_setting_is_measured_as_it_is_built(few_only: bool) -> None:
    data = small_data(scale=2.0)
    taus = (0.0,) if few_only else TAUS
    family = Family.of("lda", data, {0.2: (0.0, 1.0), 1.0: (1.0,)}, taus, few_only=few_only)
    assert len(set(family.settings)) == len(family.settings)
    for place, found in enumerate(family.contests()):
        logits = family.build(place, 0.0).logits(data.val_features)
        expected = Contest.of(logits, data.val_labels, data.classes.few)
        assert found.gap == pytest.approx(expected.gap, abs=1e-3)
        clear = np.abs(expected.gap) > 1e-3
        assert (found.correct()[clear] == expected.correct()[clear]).all()


def test_lda__better_than_its_limit_where_features_are_correlated() -> None:
    counts = [200] * 8 + [8] * 4
    rows, labels = drawn(counts, width=10)
    val, val_labels = drawn([60] * 12, width=10)
    means = np.stack([rows[labels == c].mean(axis=0) for c in range(12)])
    head = Head(means, -0.5 * (means**2).sum(axis=1))  # the nearest mean
    data = data_of(rows, labels, head, val=(val, val_labels), drop=0.0)
    gain, limit = (f.val["few"] or 0 for f in (fit("lda", data), fit("mean-directions", data)))
    assert gain > limit + 5


def store_in(folder: Path) -> FeatureStore:
    rows, labels = drawn([30, 40, 5])
    writer = FeatureWriter(folder, num_classes=3)
    writer.add(rows, labels, [str(i) for i in range(len(rows))])
    return writer.finish()


def test_store__scatter_is_kept_and_is_of_these_classes(tmp_path: Path) -> None:
    store, base = store_in(tmp_path), np.array([0, 1])
    first = store.within_class(base)
    assert first.covariance == pytest.approx(scatter_of(*drawn([30, 40, 5]), [0, 1]), rel=1e-5)
    shard = tmp_path / store.shards[0].file
    whole = shard.read_bytes()
    shard.write_bytes(b"no features")
    again = FeatureStore.open(tmp_path).within_class(base)
    assert (again.covariance == first.covariance).all()
    assert again.shrinkage == first.shrinkage
    with pytest.raises(FileFormatError):
        store.within_class(np.array([1]))
    shard.write_bytes(whole)
    other = store.within_class(np.array([1]))
    assert other.covariance == pytest.approx(scatter_of(*drawn([30, 40, 5]), [1]), rel=1e-5)


BOTH = pytest.mark.parametrize("name", ["lda", "lda-few", "mean-directions"])


def sane(data: FitData, name: str) -> None:
    """Finite rows, and no worse on validation than it may be."""
    correction = fit_method(name, data)
    assert np.isfinite(correction.rows).all()
    assert correction.biases is None or np.isfinite(correction.biases).all()
    found = fit(name, data).val
    assert (found["overall"] or 0) >= (data.base["overall"] or 0) - (
        data.limits.max_overall_drop or 0
    )


@BOTH
def test_bad_input__fewer_samples_than_features_and_a_constant_one(name: str) -> None:
    rows, labels = drawn([20, 20, 3], width=80)
    rows[:, 3] = 1.0
    rows[:, 4] = rows[:, 5]
    head = Head(np.random.default_rng(0).standard_normal((3, 80)).astype(np.float32), None)
    data = data_of(rows, labels, head)
    sane(data, name)
    found = fit_method(name, data)
    # What is the same for all samples gets no weight; two equal features get the same.
    assert found.rows[:, 3] == pytest.approx(head.weight[found.classes, 3], abs=1e-6)
    changes = found.rows - head.weight[found.classes]
    assert changes[:, 4] == pytest.approx(changes[:, 5], abs=1e-4)


@BOTH
def test_bad_input__samples_of_base_classes_all_alike(name: str) -> None:
    eye, labels = np.eye(3, dtype=np.float32), np.repeat(np.arange(3), [30, 30, 3])
    sane(data_of(eye[labels], labels, Head(eye)), name)


@BOTH
def test_bad_input__one_base_class(name: str) -> None:
    rows, labels = drawn([50, 4, 4])
    data = data_of(rows, labels, Head(rows[[0, 51, 55]], np.zeros(3, np.float32)))
    sane(data, name)
    assert data.within.covariance == pytest.approx(scatter_of(rows, labels, [0]), rel=1e-4)


@BOTH
def test_bad_input__class_without_training_samples(name: str) -> None:
    rows, labels = drawn([50, 30, 4])
    labels[labels == 2] = 3
    head = Head(np.vstack([rows[[0, 51]], np.zeros((1, 6)), rows[[80]]]).astype(np.float32), None)
    data = data_of(rows, labels, head)
    sane(data, name)
    found = fit_method(name, data)
    # Its row stays what it is: there is no mean to add.
    assert not found.rows[found.classes == 2].any()
    assert np.isfinite(data.prior).all()


@BOTH
def test_bad_input__validation_without_few_classes_or_with_a_sample_each(name: str) -> None:
    data = small_data(drop=0.0)
    base = np.flatnonzero(np.isin(data.val_labels, data.classes.base))
    one = np.unique(data.val_labels, return_index=True)[1]
    for index in (base, one):
        part = Features.of(data.val_features[index], data.val_labels[index], num_classes=12)
        sane(replace(data, val=part), name)
        # Nothing can be chosen, or promised, on such samples: the model stays what it is.
        sure = replace(data, val=part, limits=Limits(0.0))
        outcome = choose(sure, [RIVALS[name].offer(sure)])
        assert outcome.fitted is None
        kept = correction_of(sure, None, outcome, name)
        assert kept.is_base
        assert (kept.apply(data.head).weight == data.head.weight).all()


@BOTH
def test_bad_input__a_prior_of_zero(name: str) -> None:
    """A class without training samples counts as one sample, so that its logarithm exists."""
    rows, labels = drawn([50, 30, 4])
    labels[labels == 2] = 3
    data = data_of(rows, labels, Head(np.zeros((4, 6), np.float32), np.zeros(4, np.float32)))
    assert data.prior == pytest.approx(np.array([50, 30, 1, 4]) / 85)
    sane(data, name)


@pytest.mark.slow
def test_directions__many_more_features_than_samples() -> None:
    """There P^-1 is known by Woodbury's identity, N x N."""
    rng, width, gamma = np.random.default_rng(0), 2048, 0.3
    labels = np.repeat(np.arange(4), [40, 40, 40, 5])
    means = rng.standard_normal((4, width)).astype(np.float32)
    rows = means[labels] + 4 * rng.standard_normal((len(labels), width)).astype(np.float32)
    features = Features.of(rows, labels)
    centered = features.class_means() - features.class_means().mean(axis=0)
    found = directions(features.within_class(np.arange(3)), gamma, centered)
    mine = labels < 3
    r = ((rows - features.class_means()[labels])[mine] / np.sqrt(120)).astype(np.float64)
    a = (1 - gamma) * width / (r**2).sum()
    inner = np.linalg.solve(np.eye(120) * gamma / a + r @ r.T, r @ centered.T)
    expected = ((centered.T - r.T @ inner) / gamma).T
    expected /= np.sqrt((expected * centered).sum(axis=1))[:, None]
    assert found == pytest.approx(expected, abs=1e-4 * np.abs(expected).max())
    data = data_of(rows, labels, Head(means, None), drop=0.0)
    assert ClassTable.of(labels, num_classes=4).few.tolist() == [3]
    assert np.isfinite(fit_method("lda-few", data).rows).all()
