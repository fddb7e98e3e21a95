"""Model Regression and MetaModelNet against numbers worked out from the papers' equations.

Neither has code of its authors in public. The numbers were worked out in float64 by a few lines of
plain NumPy that hold the loss of Wang and Hebert 2016 and Eq. 2 of Wang, Ramanan and Hebert 2017,
with its blocks (batch normalisation, leaky ReLU and weights, twice) as two public summaries of it
have them: https://github.com/kchu25/cs/blob/main/blog/fewshots/learn_tail.md, and one in Korean
that has the equations with their numbers, and blocks of two layers.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from alphafix.features.store import FeatureStore
from alphafix.metrics.accuracy import tier_accuracy
from alphafix.rivals import RIVALS
from alphafix.rivals.data import FitData
from alphafix.rivals.few_shot.classifiers import DECAY, DRAWS, TrainedShots, softmax_rows
from alphafix.rivals.few_shot.metamodelnet import entry
from alphafix.rivals.few_shot.metamodelnet_normalised import NormalisedChain
from alphafix.rivals.few_shot.model_regression import objective
from alphafix.rivals.few_shot.model_regression_svm import Pairs, hinge_loss, network
from alphafix.rivals.few_shot.shots import Shots, head_places
from alphafix.rivals.few_shot.svm import support_vector_rows
from alphafix.values.arrays import IntArray
from alphafix.values.head import Head
from tests.rivals.problems import small_data


def test_support_vector__rows_by_hand() -> None:
    """Points at 2 and -2, of mean length 2, are 1 and -1: w = 1 there, and 1/2 for the features."""
    features = np.array([[2.0, 0.0], [-2.0, 0.0]], np.float32)
    (row,) = support_vector_rows(features, [(np.array([0]), np.array([1]))])
    assert row == pytest.approx([0.5, 0, 0], abs=1e-3)
    # A penalty of 1/4 is too little for the margin: w = C (1 + 1) = 1/2 of those units.
    (row,) = support_vector_rows(features, [(np.array([0]), np.array([1]))], penalty=0.25)
    assert row == pytest.approx([0.25, 0, 0], abs=1e-3)
    # Ten times the features, a tenth of the rows: the penalty means the same.
    (row,) = support_vector_rows(10 * features, [(np.array([0]), np.array([1]))])
    assert row == pytest.approx([0.05, 0, 0], abs=1e-4)


ROWS = [[1.0, 0.0, -0.5], [0.0, 2.0, 0.25]]


def test_model_regression__loss_and_gradient_are_those_of_equation_2() -> None:
    rows = torch.tensor(ROWS, requires_grad=True)
    own = torch.tensor([[[1.0, 0, 1], [2, 1, 1]], [[0, 1, 1], [1, 0.25, 1]]])
    others = torch.tensor([[-1.0, 0, 1], [0.5, 0.5, 1], [1, -1, 1]])
    apart = torch.tensor([[1.0, 1, 0], [1, 0, 1]])
    targets = torch.tensor([[0.5, 0.0, 0.0], [0.0, 1.0, 1.0]])
    task_loss = hinge_loss(rows, own, torch.ones(2, 2), others, apart)
    assert task_loss.item() == pytest.approx(0.375)
    loss = objective(rows, targets, task_loss, 0.3)
    assert loss.item() == pytest.approx(0.284375)
    torch.autograd.backward(loss)
    expected = [[0.06458333, 0.01875, -0.08333333], [-0.075, 0.15729167, -0.125]]
    torch.testing.assert_close(rows.grad, torch.tensor(expected))


def test_model_regression__a_filled_place_is_no_sample() -> None:
    # Margins 1 - 2 and 1 - 0.5 of the class, 1 + 0.5 of the other: (0 + 0.5 + 1.5) / 3.
    rows, others = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.0]])
    own = torch.tensor([[[2.0, 0.0], [0.5, 0.0], [-9.0, 0.0]]])
    present = torch.tensor([[1.0, 1.0, 0.0]])
    found = hinge_loss(rows, own, present, others, torch.ones(1, 1))
    assert float(found) == pytest.approx(2 / 3)


def test_model_regression__the_task_loss_is_of_the_samples_of_the_small_machine() -> None:
    data = small_data()
    pairs, counts = Pairs.of(data), data.counts[data.classes.few].astype(int)
    for places, label in zip(pairs.drawn, data.classes.base.tolist(), strict=True):
        for drawn in places:
            assert (drawn >= 0).sum() in counts
            assert (data.labels[drawn[drawn >= 0]] == label).all()
    # The machine of a draw is trained on just these, and those of other classes.
    label, drawn = int(data.classes.base[0]), pairs.drawn[0, 1]
    others = pairs.negatives[data.labels[pairs.negatives] != label]
    (row,) = support_vector_rows(data.features, [(drawn[drawn >= 0], others)], seed=data.seed)
    np.testing.assert_allclose(pairs.small[0, 1], row, rtol=1e-5)


def test_model_regression__network_has_four_layers_with_leaky_relu_between_them() -> None:
    names = [type(layer).__name__ for layer in network(5, 0)]
    assert names == [*["Linear", "LeakyReLU"] * 3, "Linear"]


def test_model_regression__base_rows_are_the_machines_of_all_samples() -> None:
    data = small_data()
    pairs, base = Pairs.of(data), data.classes.base
    found = RIVALS["model-regression"].fit(data, steps=2).correction
    assert found is not None
    assert found.classes.tolist() == list(range(12))
    np.testing.assert_allclose(found.rows[base], pairs.targets[:, :-1], rtol=1e-6)
    assert found.biases is not None
    np.testing.assert_allclose(found.biases[base], pairs.targets[:, -1], rtol=1e-6)
    # They tell base classes apart: each against all others.
    scores = data.val_features @ found.rows.T + found.biases
    mine = np.isin(data.val_labels, base)
    right = base[scores[mine][:, base].argmax(axis=1)] == data.val_labels[mine]
    known = tier_accuracy(right, data.val_labels[mine], data.classes)["overall"]
    assert known is not None
    assert known > 50  # one in nine by chance


def test_model_regression__objective_by_hand() -> None:
    rows = torch.tensor([[1.0, 2.0], [0.0, 3.0]])
    targets = torch.tensor([[0.0, 2.0], [2.0, 0.0]])
    # Squares 1, 0, 4, 9: mean 3.5, half of it 1.75; the task loss 2 times 0.25.
    found = objective(rows, targets, torch.tensor(2.0), 0.25)
    assert float(found) == pytest.approx(1.75 + 0.5)


@pytest.mark.slow
def test_model_regression_lda__learns_the_identity_where_it_is_the_answer() -> None:
    # The head's rows are the few-shot rows of all samples, so that T has only to leave them.
    data = small_data(num_classes=48, width=3)
    rows = Shots.of(data)._as_rows(data.means).numpy()
    exact = replace(data, head=Head(rows[:, :-1].copy(), rows[:, -1].copy()))
    found = RIVALS["model-regression-lda"].fit(exact, steps=1000).correction
    few = data.classes.few
    assert found is not None
    assert np.corrcoef(found.rows.ravel(), rows[few, :-1].ravel())[0, 1] > 0.75


def test_softmax_rows__a_step_by_hand() -> None:
    """At zero p = 1/2: gradients -1/2 and 1/2 along x, 0 for the bias; L = (1 + 1) / 2 + decay."""
    features, labels = torch.tensor([[1.0], [-1.0]]), torch.tensor([0, 1])
    rows = softmax_rows(features, labels, 2, steps=1)
    rate = 1 / (1 + DECAY)
    torch.testing.assert_close(rows, torch.tensor([[0.5, 0.0], [-0.5, 0.0]]) * rate)
    assert softmax_rows(features, labels, 2, bias=False)[:, 1].tolist() == [0, 0]


def test_softmax_rows__are_those_of_logistic_regression() -> None:
    """Scikit-learn minimises n times the same: C = 1 / (n decay), the bias among the features."""
    data = small_data()
    x = np.c_[data.features, np.ones(len(data.features), np.float32)]
    reference = LogisticRegression(
        C=1 / (len(x) * DECAY), fit_intercept=False, tol=1e-8, max_iter=2000
    ).fit(x, data.labels)
    rows = softmax_rows(
        torch.from_numpy(data.features), torch.from_numpy(data.labels), 12, steps=4000
    )
    np.testing.assert_allclose(rows, reference.coef_, rtol=0.01, atol=0.01)


def entries_of(data: FitData) -> IntArray:
    """The blocks at which the few-split classes enter."""
    return np.array([entry(int(count)) for count in data.counts[data.classes.few]])


def test_trained_shots__are_classifiers_of_k_samples_a_class() -> None:
    data = small_data()
    shots, entries = Shots.of(data), entries_of(data)
    trained = TrainedShots.of(shots, entries)
    assert len(trained.drawn) == entries.max() + 1
    features = torch.nn.functional.pad(torch.from_numpy(data.features), (0, 1), value=1.0)
    for start, drawn in enumerate(trained.drawn):
        known = head_places(data, start)
        unknown = np.setdiff1d(np.arange(len(data.classes.base)), known)
        assert drawn.shape == (DRAWS, *shots.targets.shape)
        assert (drawn[:, unknown] == 0).all()
        mine, rights = np.isin(data.labels, data.classes.base[known]), []
        for one in drawn:
            torch.testing.assert_close(one[known].mean(dim=0), shots.targets[known].mean(dim=0))
            right = (features[mine] @ one[known].T).argmax(dim=1).numpy()
            rights.append((data.classes.base[known][right] == data.labels[mine]).mean())
        # Better than chance among all samples, of which they saw 2^start a class.
        assert np.mean(rights) > 1.5 / len(known)
        # Other samples each, hence other rows.
        assert not torch.equal(drawn[0], drawn[1])
    rng = np.random.default_rng(0)
    found = trained.drawn_rows(np.array([0, 2]), 0, rng)
    assert any(torch.equal(found[1], trained.drawn[0][i, 2]) for i in range(DRAWS))


def test_trained_shots__few_rows_see_all_samples_of_their_classes_alone() -> None:
    data = small_data()
    shots, entries = Shots.of(data), entries_of(data)
    before = TrainedShots.of(shots, entries).few_rows()
    label = int(data.classes.few[0])
    for mine in np.flatnonzero(data.labels == label).tolist():
        features = data.features.copy()
        features[mine] += 1
        moved = replace(data, train=FeatureStore.of(features, data.labels, num_classes=12))
        after = TrainedShots.of(replace(shots, data=moved), entries).few_rows()
        assert not torch.allclose(before[0], after[0])


def test_metamodelnet__entries_and_untrained_chain() -> None:
    assert [entry(n) for n in (1, 2, 3, 4, 19)] == [0, 1, 1, 2, 4]
    rows = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(NormalisedChain(5, 4).eval()(rows, 1), rows)
    data = small_data()
    shots = Shots.of(data)
    trained = TrainedShots.of(shots, entries_of(data))
    for name, expected in (("metamodelnet", trained), ("metamodelnet-lda", shots)):
        found = RIVALS[name].fit(data, steps=0).correction
        assert found is not None
        few_rows = expected.few_rows().numpy()
        assert found.rows == pytest.approx(few_rows[:, :-1], rel=1e-4, abs=1e-5)
    with torch.no_grad():
        chain = NormalisedChain(5, 2).eval()
        list(chain.blocks)[1].layers[1].bias.fill_(1.0)  # type: ignore[index, union-attr]
    assert torch.equal(chain(rows, 0), rows + 1)
    assert torch.equal(chain(rows, 1), rows + 1)


def chain() -> NormalisedChain:
    """Two blocks for rows of two numbers."""
    made = NormalisedChain(2, 2)
    weights = [[[0.5, -1.0], [0.25, 0.75]], [[-0.2, 0.4], [1.0, 0.1]]]
    weights += [[[1.0, 0.5], [-0.5, 0.25]], [[0.3, 0.0], [-0.1, 0.6]]]
    biases = [[0.1, -0.2], [0.0, 0.3], [-0.3, 0.2], [0.25, -0.5]]
    layers = [one for one in made.modules() if isinstance(one, torch.nn.Linear)]
    for layer, weight, bias in zip(layers, weights, biases, strict=True):
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(weight))
            layer.bias.copy_(torch.tensor(bias))
    return made


def test_metamodelnet__chain_is_equation_2() -> None:
    """F_0(w) = F_1(w + f_0(w)), f two layers with LeakyReLU(BN(.)) before each."""
    rows = torch.tensor([[1.0, 2.0], [3.0, -1.0], [-1.0, 0.5]])
    whole = [[1.96748929, 2.45490764], [3.27733034, -0.21280353], [-0.80952627, 0.78361616]]
    last = [[1.25365539, 2.1353763], [3.61557485, -1.62989949], [-0.7536923, 0.16875606]]
    torch.testing.assert_close(chain()(rows, 0), torch.tensor(whole))
    torch.testing.assert_close(chain()(rows, 1), torch.tensor(last))


def test_metamodelnet__trains_a_block_and_those_after_it() -> None:
    made = chain()
    assert len(made.parameters_from(1)) == 8
    assert {id(p) for p in made.parameters_from(0)} == {id(p) for p in made.parameters()}
    assert {id(p) for p in made.parameters_from(1)} == {id(p) for p in made.blocks[1].parameters()}


def test_metamodelnet__a_block_learns_from_classes_with_twice_its_samples() -> None:
    data = small_data()
    counts = data.counts[data.classes.base]
    most = int(np.log2(counts.max())) - 1
    for start in range(most + 1):
        assert (counts[head_places(data, start)] >= 2 ** (start + 1)).all()
    assert len(head_places(data, most)) < len(counts) or counts.min() >= 2 ** (most + 1)
    assert head_places(data, 30).tolist() == list(range(len(counts)))
