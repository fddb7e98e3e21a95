"""The reduced objective is the direct one: loss, gradients and predictions."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alphafix.alphanet.measure import contest
from alphafix.alphanet.network import (
    Inputs,
    alphas,
    backward,
    forward,
    initial_networks,
    padded_classes,
)
from alphafix.alphanet.objective import (
    Aims,
    correct_predictions,
    few_scores,
    losses_and_slopes,
    near_scores,
)
from alphafix.alphanet.training import Hyper, _input_rows
from tests.alphanet.build import make_setup
from tests.alphanet.oracle import Direct


@st.composite
def problems(draw: st.DrawFn) -> dict[str, object]:
    few = draw(st.integers(1, 6))
    base = draw(st.integers(3, 9))
    return {
        "few": few,
        "num_classes": few + base,
        # K = 1 is left out: alpha is +-1 there and its gradient nothing but rounding.
        "k": draw(st.integers(2, base - 1)),
        "width": draw(st.integers(1, 12)),
        "bias": draw(st.booleans()),
        "scale": draw(st.sampled_from([1.0, 3.0])),
        "rho": draw(st.sampled_from([0.0, 0.1, 0.5, 2.0])),
        "official": draw(st.booleans()),
        "table": draw(st.booleans()),
        "seed": draw(st.integers(0, 10_000)),
    }


@settings(max_examples=40, deadline=None)
@given(problems())
def test_reduced_objective__equals_the_direct_one(case: dict[str, object]) -> None:
    setup = make_setup(
        **{name: case[name] for name in ("num_classes", "few", "width", "bias", "scale", "seed")}  # type: ignore[arg-type]
    )
    hyper = Hyper(
        epochs=1,
        include_self=bool(case["official"]),
        learn_bias=not case["official"] and bool(case["bias"]),
    )
    trial = setup.trial(hyper, rho=case["rho"], k=case["k"], seed=case["seed"])  # type: ignore[arg-type]
    direct = Direct.of(trial, setup.head, setup.classes.few, hyper)
    index = torch.from_numpy(trial.samples[0])
    loss = direct.loss(
        torch.from_numpy(setup.features)[index], torch.from_numpy(setup.labels)[index]
    )
    parameters = [*direct.network.parameters()] + ([direct.biases] if hyper.learn_bias else [])
    expected = torch.autograd.grad(loss, parameters)

    # Too small a memory budget makes the columns be recomputed from the features.
    data = setup.data([trial], memory=1 << 30 if case["table"] else 0)
    rows = _input_rows(
        torch.from_numpy(trial.neighbors)[None], [data], include_self=hyper.include_self
    )
    inputs = Inputs.of(rows)
    networks = initial_networks(
        [trial.seed], data.biases, inputs=rows.shape[-1], hidden=hyper.hidden, k=trial.k
    )
    count = len(setup.classes.few)
    positions = padded_classes(data.positions[torch.from_numpy(trial.neighbors)][None])
    columns = data.train.columns.of_samples(index[None])
    near = near_scores(columns, positions.transpose(1, 2))
    found = forward(networks, inputs)
    few = few_scores(columns, near, found.alphas, networks.biases * data.scale)
    losses, slopes = losses_and_slopes(few, Aims.of(data.train, index[None], count))
    reduced, slopes = losses.mean(), slopes / losses.numel()
    pulls = (near * slopes[:, :, None]).sum(1)
    views, packed = networks.packed()
    gradients = backward(networks, inputs, found, pulls)
    for tensor, gradient in zip(packed, gradients, strict=False):
        tensor.copy_(gradient)  # the views then are each layer's
    got = [p for pair in zip(views.weights, views.offsets, strict=True) for p in pair]
    if hyper.learn_bias:
        got.append(slopes.sum(1) * data.scale)

    torch.testing.assert_close(reduced, loss, rtol=1e-4, atol=1e-5)
    largest = max(float(gradient.abs().max()) for gradient in expected)
    # Where the outputs nearly cancel, dividing by their 1-norm makes rounding as large as 2e-5.
    for ours, theirs in zip(got, expected, strict=True):
        unpadded = ours[0][tuple(slice(size) for size in theirs.shape)]
        torch.testing.assert_close(unpadded, theirs, rtol=1e-3, atol=5e-5 * max(1.0, largest))

    with torch.no_grad():
        logits = direct.logits(torch.from_numpy(setup.val_features))
    assert data.val is not None
    scaled = networks.biases[0, :count] * data.scale
    chosen = found.alphas[0, :, :count].T
    correct = correct_predictions(data.val, positions[0, :count], chosen, scaled)
    top = logits.topk(2, dim=1).values
    clear = (top[:, 0] - top[:, 1]) > 1e-4  # rounding may decide the rest
    right = logits.argmax(1) == torch.from_numpy(setup.val_labels)
    assert torch.equal(correct[clear], right[clear])


def test_contest__agrees_with_the_corrected_head() -> None:
    setup = make_setup(num_classes=12, few=4, width=5)
    trial = setup.trial(Hyper(epochs=1), k=3)
    layout = setup.layout([trial])
    rng = np.random.default_rng(1)
    coefficients = rng.normal(size=(4, 3)).astype(np.float32)
    biases = rng.normal(size=4).astype(np.float32)
    result = contest(setup.scores(layout, val=True), layout, trial.neighbors, coefficients, biases)
    weight = setup.head.weight
    rows = weight[setup.classes.few] + np.einsum(
        "fk,fkd->fd", coefficients, weight[trial.neighbors]
    )
    for offset in (-1.0, 0.0, 2.0):
        head = setup.head.with_rows(setup.classes.few, rows, biases + np.float32(offset))
        right = head.logits(setup.val_features).argmax(1) == setup.val_labels
        np.testing.assert_array_equal(result.correct(offset), right)


def test_alphas__of_a_zero_vector_stay_zero() -> None:
    networks = initial_networks([0], torch.zeros(2), inputs=4, hidden=(3,), k=2)
    zero = networks.map(torch.zeros_like)
    inputs = Inputs.of(torch.ones(16, 4))
    assert torch.equal(alphas(zero, inputs), torch.zeros(1, 16, 2))
    # And its gradient is finite, as PyTorch has it: the norm is then a constant.
    found = backward(zero, inputs, forward(zero, inputs), torch.ones(1, 2, 16))
    assert all(torch.isfinite(one).all() for one in found)
