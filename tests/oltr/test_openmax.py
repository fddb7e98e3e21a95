from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import weibull_min

from alphafix.errors import InputError
from alphafix.openset.openmax import OpenMax, weibull_fit
from alphafix.values.arrays import FloatArray, IntArray


def training(
    counts: list[int], *, seed: int = 0, spread: float = 1.0
) -> tuple[FloatArray, IntArray]:
    """Logits around 8 for the own class and 0 for the others."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int64)
    logits = 8 * np.eye(len(counts))[labels] + spread * rng.normal(size=(len(labels), len(counts)))
    return logits.astype(np.float32), labels


def test_probabilities__hand_computed() -> None:
    model = OpenMax(
        means=np.array([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 4.0]]),
        shapes=np.array([2.0, 1.0, 1.0]),
        scales=np.array([5.0, 2.0, 1.0]),
        pooled=np.zeros(3, dtype=np.bool_),
        rank=2,
    )
    found = model.probabilities(np.array([[1.0, 4.0, -1.0]], dtype=np.float32))
    # Ranks: class 1 (weight 2/2), class 0 (weight 1/2); class 2 is not revised.
    outside_1 = 1 - np.exp(-np.sqrt(1 + 0 + 1) / 2)
    outside_0 = 1 - np.exp(-((np.sqrt(9 + 16 + 1) / 5) ** 2))
    removed = [1.0 * 0.5 * outside_0, 4.0 * outside_1]
    revised = np.array([1 - removed[0], 4 - removed[1], -1, sum(removed)])
    assert found[0] == pytest.approx(np.exp(revised) / np.exp(revised).sum())
    scores = model.unknown_scores(np.array([[1.0, 4.0, -1.0]], dtype=np.float32))
    assert scores[0] == pytest.approx(1 - found[0, :3].max())


def test_probabilities__negative_activations_stay() -> None:
    model = OpenMax(
        means=np.zeros((2, 2)),
        shapes=np.ones(2),
        scales=np.ones(2),
        pooled=np.zeros(2, dtype=np.bool_),
        rank=2,
    )
    found = model.probabilities(np.array([[-1.0, -2.0]], dtype=np.float32))
    exponentials = np.exp([-1.0, -2.0, 0.0])
    assert found[0] == pytest.approx(exponentials / exponentials.sum())


def test_fit__means_are_those_of_correct_samples() -> None:
    logits, labels = training([40, 40, 40])
    logits[0] = [0, 50, 0]  # a training sample that is taken for class 1
    model = OpenMax.fit(logits, labels)
    assert model.means[0] == pytest.approx(logits[1:40].astype(np.float64).mean(axis=0))


def test_fit__weibull_of_the_20_largest_distances() -> None:
    logits, labels = training([60, 60, 60])
    model = OpenMax.fit(logits, labels)
    own = logits[labels == 2].astype(np.float64)
    tail = np.sort(np.linalg.norm(own - own.mean(axis=0), axis=1))[-20:]
    shape, _, scale = weibull_min.fit(tail, floc=0)
    assert (model.shapes[2], model.scales[2]) == pytest.approx((shape, scale), rel=1e-3)
    assert not model.pooled.any()


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_weibull_fit__recovers_shape_and_scale_at_any_size(size: float) -> None:
    values = size * weibull_min.rvs(3.0, scale=2.0, size=20_000, random_state=0)
    shape, scale = weibull_fit(values)
    assert (shape, scale / size) == pytest.approx((3.0, 2.0), rel=0.03)


def test_fit__clamps_the_tail_and_pools_small_classes() -> None:
    logits, labels = training([60, 15, 4, 1])
    model = OpenMax.fit(logits, labels)
    assert model.pooled.tolist() == [False, False, True, True]
    own = logits[labels == 1].astype(np.float64)
    distances = np.linalg.norm(own - own.mean(axis=0), axis=1)
    assert (model.shapes[1], model.scales[1]) == pytest.approx(weibull_fit(distances))
    first = logits[labels == 0].astype(np.float64)
    tail = np.sort(np.linalg.norm(first - first.mean(axis=0), axis=1))[-20:]
    pooled = weibull_fit(np.concatenate([tail, distances]))
    assert (model.shapes[2], model.scales[2]) == pytest.approx(pooled)
    assert model.shapes[3] == model.shapes[2]


def test_fit__class_without_a_correct_sample_takes_all_of_them() -> None:
    logits, labels = training([30, 30, 12])
    logits[labels == 2, 0] = 50
    model = OpenMax.fit(logits, labels)
    assert model.pooled.tolist() == [False, False, True]
    assert model.means[2] == pytest.approx(logits[labels == 2].astype(np.float64).mean(axis=0))


def test_fit__pools_everything_where_all_classes_are_small() -> None:
    logits, labels = training([3, 3, 3, 3])
    model = OpenMax.fit(logits, labels)
    assert model.pooled.all()
    assert np.ptp(model.scales) == 0


def test_unknown_scores__tell_far_samples_from_near_ones() -> None:
    logits, labels = training([50] * 12)
    model = OpenMax.fit(logits, labels)
    near, _ = training([10] * 12, seed=1)
    far = np.random.default_rng(2).normal(2, 1, size=(120, 12)).astype(np.float32)
    known, unknown = model.unknown_scores(near), model.unknown_scores(far)
    assert np.median(known) < 0.1 < 0.5 < np.median(unknown)
    probabilities = model.probabilities(np.concatenate([near, far]))
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(240))
    assert np.isfinite(probabilities).all()


def test_probabilities__same_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = training([20, 20, 20])
    model = OpenMax.fit(logits, labels)
    whole = model.probabilities(logits)
    monkeypatch.setattr("alphafix.openset.openmax.CHUNK_LOGITS", 21)
    assert np.allclose(model.probabilities(logits), whole, rtol=1e-12)


def test_fit__names_the_class_without_samples() -> None:
    logits, labels = training([20, 0, 20])
    with pytest.raises(InputError, match="class 1 with 0 samples"):
        OpenMax.fit(logits, labels)


def test_fit__nothing_to_fit() -> None:
    logits, labels = training([1, 1, 1])
    with pytest.raises(InputError, match="no distances to fit"):
        OpenMax.fit(logits, labels)


def test_probabilities__other_number_of_classes() -> None:
    model = OpenMax.fit(*training([20, 20, 20]))
    with pytest.raises(InputError, match="N x 3"):
        model.probabilities(np.zeros((2, 4), dtype=np.float32))
