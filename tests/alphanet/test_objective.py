"""The reduced objective is the direct one: loss, gradients and predictions."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alphafix.alphanet.correction import Correction, LookedUp, Multiplied, correction_of
from alphafix.alphanet.inputs import (
    CommonInputs,
    DistinctInputs,
    Inputs,
    OwnInputs,
    inputs_of,
    pieces,
)
from alphafix.alphanet.measure import contest
from alphafix.alphanet.network import Passes, initial_networks
from alphafix.alphanet.objective import Aims, Slopes, correct_predictions
from alphafix.alphanet.padding import padded_classes
from alphafix.alphanet.trial import Hyper
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
        "inputs": draw(st.sampled_from([OwnInputs, CommonInputs, DistinctInputs])),
        "lookup": draw(st.booleans()),
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
    near = torch.from_numpy(trial.neighbors)
    entering = torch.cat([data.few[:, None], near], 1) if hyper.include_self else near
    entering_rows = padded_classes(data.weight[entering].flatten(1))
    cut = pieces(entering.shape[1], setup.head.width)
    ways: dict[object, Inputs] = {
        OwnInputs: OwnInputs(entering_rows[None], cut),
        CommonInputs: CommonInputs.of(entering_rows, cut),
        DistinctInputs: DistinctInputs.of(data.weight, entering),
    }
    inputs = ways[case["inputs"]]
    networks = initial_networks(
        [trial.seed], data.biases, inputs=inputs.width, hidden=hyper.hidden, k=trial.k
    )
    count = len(setup.classes.few)
    positions = padded_classes(data.positions[near][None])
    rows = data.train.columns.of_samples(index[None])
    turned = positions.transpose(1, 2)
    correction: Correction = (LookedUp if case["lookup"] else Multiplied)(turned, rows)
    gradients = networks.map(torch.zeros_like)
    passes = Passes(networks, inputs, gradients)
    found = passes.forward()
    few = correction.scores(found, networks.biases * data.scale)
    share = torch.full((1, len(index)), 1 / len(index))
    aims, logs = Aims.of(data.train, index[None], share, count), torch.empty(1, len(index), 1)
    slopes = Slopes(few, count).of(few, aims, logs)
    reduced = aims.losses(logs).sum()
    passes.backward(correction.pulls(slopes))
    got = [p for pair in zip(gradients.weights, gradients.offsets, strict=True) for p in pair]
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
    chosen = found[0, :, :count].T
    correct = correct_predictions(data.val, positions[0, :count], chosen, scaled)
    top = logits.topk(2, dim=1).values
    clear = (top[:, 0] - top[:, 1]) > 1e-4  # rounding may decide the rest
    right = logits.argmax(1) == torch.from_numpy(setup.val_labels)
    assert torch.equal(correct[clear], right[clear])


@pytest.mark.parametrize("memory", [1 << 30, 0])  # a table, and features
@pytest.mark.parametrize("every", [2, 13, 197])
@pytest.mark.parametrize("threads", [1, 2])
def test_scores__of_a_sample_do_not_depend_on_how_many_others_there_are(
    memory: int, every: int, threads: int, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(partial(torch.set_num_threads, torch.get_num_threads()))
    torch.set_num_threads(threads)
    setup = make_setup(num_classes=80, few=10, width=2048)  # 1,790 samples
    trial = setup.trial(Hyper(epochs=1))
    some = replace(setup, features=setup.features[::every], labels=setup.labels[::every])
    among, alone = (one.scores(setup.layout([trial]), memory=memory) for one in (setup, some))
    assert torch.equal(alone.base_lse, among.base_lse[::every])
    assert torch.equal(alone.own, among.own[::every])
    assert torch.equal(alone.base_max, among.base_max[::every])
    asked = torch.arange(10 * 64).view(10, 64)  # of ten trials in a step
    rows = among.columns.of_samples(asked)
    assert torch.equal(among.columns.of_samples(asked[3]), rows[3])
    assert torch.equal(among.columns.of_samples(asked.flatten()), rows.flatten(0, 1))


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
    gradients = networks.map(torch.ones_like)
    passes = Passes(zero, CommonInputs.of(torch.ones(16, 4), 2), gradients)
    assert torch.equal(passes.forward(), torch.zeros(1, 2, 16))
    # And its gradient is finite, as PyTorch has it: the norm is then a constant.
    passes.backward(torch.ones(1, 2, 16))
    found = [*gradients.weights, *gradients.offsets]
    assert all(torch.isfinite(one).all() for one in found)


def test_inputs_of__multiplies_once_what_several_classes_share() -> None:
    weight = torch.from_numpy(np.random.default_rng(0).normal(size=(60, 64)).astype(np.float32))
    shared = torch.tensor([[50, 51], [51, 50]]).repeat(20, 1)[None]  # two rows at each place
    found = inputs_of([weight], shared)
    assert isinstance(found, DistinctInputs)
    assert found.rows.shape == (2, 16, 64)
    different = torch.arange(40)[None, :, None] + torch.tensor([0, 20])
    assert isinstance(inputs_of([weight], different), CommonInputs)
    assert isinstance(inputs_of([weight, weight], shared), OwnInputs)


def test_correction_of__a_table_needs_a_place_for_each_neighbour() -> None:
    positions = torch.tensor([[16, 17], [17, 18]]).T[None].repeat(1, 1, 8)  # 1 x K x F'
    rows = torch.zeros(1, 5, 20)
    assert isinstance(correction_of(positions, rows, classes=3), Multiplied)
    for wrong in (17, 3):  # the class's other neighbour, and a few-split class
        changed = positions.clone()
        changed[0, 0, 1] = wrong
        if wrong == 17:
            changed[0, 1, 1] = wrong
        assert isinstance(correction_of(changed, rows, classes=3), LookedUp)
    many = torch.zeros(1, 5, 16 + 32 * 2 + 1)
    assert isinstance(correction_of(positions, many, classes=3), LookedUp)
