"""Heads of all kinds: what is written back gives the corrected head in effect."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphafix.checkpoints.formats.tensors import decode, encode
from alphafix.checkpoints.head.stored import Stored, effective, invert
from alphafix.errors import InputError
from alphafix.values.correction import Correction
from alphafix.values.head import HeadSource

C, D = 6, 4


def stored_head(experts: int, *, bias: bool, scales: bool, seed: int) -> Stored:
    rng = np.random.default_rng(seed)
    return Stored(
        tuple(rng.normal(size=(C, D)).astype(np.float32) for _ in range(experts)),
        tuple(rng.normal(size=C).astype(np.float32) for _ in range(experts if bias else 0)),
        (0.5 + rng.random(C)).astype(np.float32) if scales else np.ones(1, np.float32),
    )


def source_of(stored: Stored, *, normalised: bool, factor: float) -> HeadSource:
    names = tuple(f"linears.{i}.weight" for i in range(len(stored.weights)))
    return HeadSource("m", "", "experts", names, normalised=normalised, factor=factor)


def put_back(stored: Stored, correction: Correction, source: HeadSource) -> Stored:
    rows, biases = invert(stored, source, correction)
    weights = [weight.copy() for weight in stored.weights]
    for weight, new in zip(weights, rows, strict=True):
        weight[correction.classes] = new
    vectors = [bias.copy() for bias in stored.biases]
    for bias, own in zip(vectors, biases, strict=False):
        bias[correction.classes] = own
    return replace(stored, weights=tuple(weights), biases=tuple(vectors))


@settings(max_examples=60, deadline=None)
@given(
    experts=st.integers(1, 3),
    bias=st.booleans(),
    scales=st.booleans(),
    normalised=st.booleans(),
    factor=st.sampled_from([1.0, 16.0, 30.0]),
    seed=st.integers(0, 999),
)
def test_invert__gives_the_corrected_head(
    experts: int, bias: bool, scales: bool, normalised: bool, factor: float, seed: int
) -> None:
    stored = stored_head(experts, bias=bias, scales=scales, seed=seed)
    source = source_of(stored, normalised=normalised, factor=factor)
    base = effective(stored, source)
    rng = np.random.default_rng(seed + 1)
    classes = np.sort(rng.choice(C, 2, replace=False))
    # Rows that a normalising head can hold: other directions, the same lengths.
    blocks = rng.normal(size=(2, experts, D))
    old = base.weight[classes].reshape(2, experts, D)
    if normalised:
        blocks /= np.linalg.norm(blocks, axis=2, keepdims=True)
        blocks *= np.linalg.norm(old, axis=2, keepdims=True)
    rows = blocks.reshape(2, experts * D).astype(np.float32)
    biases = rng.normal(size=2).astype(np.float32) if bias else None
    correction = Correction(classes, rows, biases)

    found = effective(put_back(stored, correction, source), source)

    expected = correction.apply(base)
    np.testing.assert_allclose(found.weight, expected.weight, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.bias_or_zeros, expected.bias_or_zeros, rtol=1e-4, atol=1e-5)
    others = np.setdiff1d(np.arange(C), classes)
    np.testing.assert_array_equal(found.weight[others], base.weight[others])


def test_effective__ride_by_hand() -> None:
    """alphanet.md, part 1: rows normalised times 30, side by side, divided by E."""
    stored = Stored(
        (np.array([[3, 4]], np.float32), np.array([[0, 2]], np.float32)),
        (np.array([1], np.float32), np.array([3], np.float32)),
        np.ones(1, np.float32),
    )
    head = effective(stored, source_of(stored, normalised=True, factor=30.0))
    np.testing.assert_allclose(head.weight, [[9, 12, 0, 15]], rtol=1e-6)
    np.testing.assert_allclose(head.bias_or_zeros, [2])


def test_effective__lws_by_hand() -> None:
    stored = Stored(
        (np.array([[3, 4]], np.float32),), (np.array([1], np.float32),), np.array([2], np.float32)
    )
    head = effective(stored, source_of(stored, normalised=False, factor=1.0))
    np.testing.assert_array_equal(head.weight, [[6, 8]])
    np.testing.assert_array_equal(head.bias_or_zeros, [2])


def test_invert__lost_length_is_refused() -> None:
    stored = stored_head(1, bias=False, scales=False, seed=0)
    source = source_of(stored, normalised=True, factor=16.0)
    base = effective(stored, source)
    correction = Correction(np.array([1]), 1.5 * base.weight[[1]], None)
    with pytest.raises(InputError, match=r"(?s)divides each row by its norm.*direction_only=True"):
        invert(stored, source, correction)
    rows, _ = invert(stored, source, correction, direction_only=True)
    np.testing.assert_allclose(rows[0], stored.weights[0][[1]], rtol=1e-5)


def test_invert__head_without_biases() -> None:
    stored = stored_head(1, bias=False, scales=False, seed=0)
    source = source_of(stored, normalised=False, factor=1.0)
    rows = stored.weights[0][[1]]
    with pytest.raises(InputError, match=r"(?s)but the head has none.*to do:"):
        invert(stored, source, Correction(np.array([1]), rows, np.ones(1, np.float32)))
    assert invert(stored, source, Correction(np.array([1]), rows, np.zeros(1, np.float32)))[1] == []


def test_invert__row_of_scale_zero_is_refused() -> None:
    stored = replace(
        stored_head(1, bias=False, scales=True, seed=0), scales=np.zeros(C, np.float32)
    )
    source = replace(source_of(stored, normalised=False, factor=1.0), scales="scales")
    correction = Correction(np.array([1]), stored.weights[0][[1]], None)
    with pytest.raises(InputError, match="scale of 0"):
        invert(stored, source, correction)


@settings(max_examples=80, deadline=None)
@given(
    values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=9),
    dtype=st.sampled_from(["float64", "float32", "float16", "bfloat16"]),
)
def test_encode__rounds_as_torch_does(values: list[float], dtype: str) -> None:
    import torch

    array = np.array(values, dtype=np.float32)
    expected = torch.from_numpy(array).to(getattr(torch, dtype)).float().numpy()
    np.testing.assert_array_equal(decode(encode(array, dtype), dtype), expected)
