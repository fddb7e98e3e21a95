"""Model Regression and MetaModelNet against numbers worked out from the papers' equations.

Neither has code of its authors in public. The numbers were worked out in float64 by a few lines of
plain NumPy that hold the loss of Wang and Hebert 2016 and Eq. 2 of Wang, Ramanan and Hebert 2017,
with its blocks (batch normalisation, leaky ReLU and weights, twice) as two public summaries of it
have them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from alphafix.metrics.accuracy import tier_accuracy
from alphafix.rivals import RIVALS
from alphafix.rivals.few_shot.metamodelnet import entry
from alphafix.rivals.few_shot.metamodelnet_normalised import NormalisedChain, head_places
from alphafix.rivals.few_shot.model_regression import objective
from alphafix.rivals.few_shot.model_regression_svm import Pairs, hinge_loss, network
from alphafix.rivals.few_shot.shots import Shots
from alphafix.rivals.few_shot.svm import support_vector_rows
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
    task_loss = hinge_loss(rows, own, others, apart)
    assert task_loss.item() == pytest.approx(0.375)
    loss = objective(rows, targets, task_loss, 0.3)
    assert loss.item() == pytest.approx(0.284375)
    torch.autograd.backward(loss)
    expected = [[0.06458333, 0.01875, -0.08333333], [-0.075, 0.15729167, -0.125]]
    torch.testing.assert_close(rows.grad, torch.tensor(expected))


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


def test_metamodelnet__entries_and_untrained_chain() -> None:
    assert [entry(n) for n in (1, 2, 3, 4, 19)] == [0, 1, 1, 2, 4]
    rows = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(NormalisedChain(5, 4).eval()(rows, 1), rows)
    data = small_data()
    found = RIVALS["metamodelnet"].fit(data, steps=0).correction
    assert found is not None
    expected = Shots.of(data).few_rows().numpy()
    assert found.rows == pytest.approx(expected[:, :-1], rel=1e-4, abs=1e-5)
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
