"""Three numbers a sample tell its answer at every offset."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphafix.errors import FileFormatError
from alphafix.features.features import Features
from alphafix.files import tensors_as_bytes
from alphafix.metrics.margins import Margins, Steered, load_steered, margins, steered_tensors
from alphafix.metrics.predictions import pair_scores, predict_pair
from tests.common import make_problem
from tests.evaluation.problems import few_bias_correction


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.floats(-3, 3))
def test_margins__as_the_largest_of_all_logits(seed: int, offset: float) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 9))
    few = np.sort(rng.choice(count, int(rng.integers(1, count)), replace=False))
    logits = rng.normal(size=(30, count)).astype(np.float32)
    if seed % 2:
        logits, offset = logits.round(), 0.0  # many are equal
    shifted = logits.astype(np.float64)
    shifted[:, few] += np.float32(offset)
    found = Margins.of(logits, few).predicted(offset)
    # Sums are rounded in float32 and not here.
    near = np.abs(Margins.of(logits, few).gap - offset) < 1e-5
    assert (found == shifted.argmax(axis=1))[~near | (offset == 0)].all()


def test_margins__in_one_pass_as_before_and_after() -> None:
    problem = make_problem(num_classes=16, spread=1.5)
    store = Features.of(problem.features["test"], problem.labels["test"], num_classes=16)
    correction = few_bias_correction(problem)
    scores = pair_scores(problem.head, correction)
    before, after = margins(store, scores, problem.classes.few)
    both = predict_pair(store, problem.head, correction)
    assert (before.predicted() == both.before.predicted).all()
    assert (after.predicted() == both.after.predicted).all()
    assert (before.predicted(2.0) == both.after.predicted).all()


METHOD = Steered(
    "lda",
    Margins(np.array([0.5, -1], dtype=np.float32), np.array([2, 2]), np.array([0, 1])),
    0.25,
    {"method": "lda", "max_overall_drop": 2.0},
)


def written(path: Path, method: Steered) -> Path:
    path.write_bytes(tensors_as_bytes(*steered_tensors([method], {"stage": "compare"})))
    return path


def test_steered__round_trip(tmp_path: Path) -> None:
    path = written(tmp_path / "a.safetensors", METHOD)
    (found,), plan = load_steered(path, samples=2, classes=3)
    assert plan == {"stage": "compare"}
    assert (found.name, found.offset, found.train) == (METHOD.name, METHOD.offset, METHOD.train)
    for name in ("gap", "few", "other"):
        assert (getattr(found.margins, name) == getattr(METHOD.margins, name)).all()


@pytest.mark.parametrize(("samples", "classes"), [(3, 3), (2, 2)])
def test_steered__of_other_samples_or_classes(tmp_path: Path, samples: int, classes: int) -> None:
    path = written(tmp_path / "a.safetensors", METHOD)
    with pytest.raises(FileFormatError, match="of other samples or classes"):
        load_steered(path, samples=samples, classes=classes)


def test_steered__no_numbers(tmp_path: Path) -> None:
    gap = np.array([np.nan, 0], dtype=np.float32)
    broken = replace(METHOD, margins=replace(METHOD.margins, gap=gap))
    with pytest.raises(FileFormatError):
        load_steered(written(tmp_path / "a.safetensors", broken), samples=2, classes=3)
