"""Every value comes back from its file as it was."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphafix.alphanet.neighbors import most_neighbours
from alphafix.errors import FileFormatError, InputError
from alphafix.files import read_tensors
from alphafix.values.classes import ClassTable, Thresholds
from alphafix.values.correction import Chosen, Correction
from alphafix.values.head import Head, HeadSource
from alphafix.values.neighbors import Neighbours
from alphafix.values.trials import TrialRecord, Trials
from tests.common import make_problem


def test_class_table__round_trips(tmp_path: Path) -> None:
    table = ClassTable(("a", "ḅ <b>", "c"), np.array([3, 20, 101]), Thresholds(few=10, many=50))
    table.save(tmp_path / "classes.json")
    loaded = ClassTable.load(tmp_path / "classes.json")
    assert loaded.names == table.names
    assert loaded.thresholds == table.thresholds
    np.testing.assert_array_equal(loaded.counts, table.counts)


def test_class_table__splits_at_the_papers_thresholds() -> None:
    table = ClassTable(tuple("abcdef"), np.array([1, 19, 20, 100, 101, 500]))
    assert table.few.tolist() == [0, 1]
    assert table.tier("medium").tolist() == [2, 3]
    assert table.tier("many").tolist() == [4, 5]
    assert table.base.tolist() == [2, 3, 4, 5]
    assert "2 few, 2 medium, 2 many (few < 20, medium 20..100, many > 100" in table.describe()


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 400), min_size=1, max_size=30),
    st.integers(1, 50),
    st.integers(0, 100),
)
def test_class_table__every_class_is_in_one_split(
    counts: list[int], few: int, further: int
) -> None:
    names = tuple(str(i) for i in range(len(counts)))
    table = ClassTable(names, np.array(counts), Thresholds(few, few + further))
    together = np.concatenate([table.tier(name) for name in ("few", "medium", "many")])
    assert sorted(together.tolist()) == list(range(len(counts)))
    assert (
        ClassTable.from_dict(json.loads(json.dumps(table.to_dict()))).to_dict() == table.to_dict()
    )


def test_class_table__overlapping_thresholds_are_refused() -> None:
    with pytest.raises(InputError, match="the split thresholds overlap"):
        Thresholds(few=50, many=20)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([0, 5, 30], "1 of 3 classes have no training samples"),
        ([30, 40, 50], r"no class has fewer than 20 training samples\n.*counts: a 30, b 40"),
        ([3, 5, 4], "every class has fewer than 20 training samples"),
        ([5], r"too few classes[\s\S]*got: +1 class: a\n[\s\S]*of more classes$"),
        ([5, 500], r"too few classes[\s\S]*got: +2 classes: a, b\n"),
    ],
)
def test_require_correctable__names_what_is_missing(counts: list[int], message: str) -> None:
    table = ClassTable(("a", "b", "c")[: len(counts)], np.array(counts))
    with pytest.raises(InputError, match=message):
        table.require_correctable()


@pytest.mark.parametrize(
    "counts", [[30, 40, 50], [3, 5, 4], [3, 4, 4], [300, 900, 800], [2, 30, 3]]
)
def test_require_correctable__the_thresholds_that_it_names_help(counts: list[int]) -> None:
    table = ClassTable(("a", "b", "c"), np.array(counts))
    with pytest.raises(InputError) as refused:
        most_neighbours(table)
    named = dict(re.findall(r"(few_below|many_above)=(\d+)", str(refused.value)))
    few, many = (
        int(named[name]) if name in named else None for name in ("few_below", "many_above")
    )
    assert most_neighbours(table.with_thresholds(few, many)) >= 1
    highest = re.search(r"up to (\d+)", str(refused.value))
    if highest is not None:
        top = int(highest[1])
        assert most_neighbours(table.with_thresholds(top, max(top, 100))) >= 1
        with pytest.raises(InputError):
            most_neighbours(table.with_thresholds(top + 1, max(top + 1, 100)))


@pytest.mark.parametrize("counts", [[5, 5, 5], [500, 500, 500, 500], [500, 5, 5]])
def test_require_correctable__of_no_long_tail_names_no_threshold(counts: list[int]) -> None:
    table = ClassTable(tuple("abcd"[: len(counts)]), np.array(counts))
    with pytest.raises(InputError, match="no long tail that could be corrected"):
        most_neighbours(table)


def test_head__round_trips_with_its_source(tmp_path: Path) -> None:
    source = HeadSource("model.safetensors", "ab" * 32, weights=("fc.weight",), biases=("fc.bias",))
    head = Head(np.eye(3, 4, dtype=np.float32), np.arange(3.0, dtype=np.float32), 2.5, source)
    head.save(tmp_path / "head.safetensors", provenance={"stage": "test"})
    loaded = Head.load(tmp_path / "head.safetensors")
    np.testing.assert_array_equal(loaded.weight, head.weight)
    np.testing.assert_array_equal(loaded.bias_or_zeros, head.bias_or_zeros)
    assert (loaded.scale, loaded.source) == (2.5, source)
    assert read_tensors(tmp_path / "head.safetensors")[1]["provenance"] == {"stage": "test"}


def test_head__without_bias_stays_without(tmp_path: Path) -> None:
    Head(np.ones((2, 3), np.float32)).save(tmp_path / "head.safetensors")
    assert Head.load(tmp_path / "head.safetensors").bias is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_head__values_that_are_not_finite_are_refused(value: float) -> None:
    weight = np.ones((3, 2), np.float32)
    weight[1, 0] = value
    with pytest.raises(InputError, match=r"1 row with NaN or inf, first: class 1"):
        Head(weight)


def test_require_match__names_both_shapes_and_the_cause() -> None:
    head = Head(np.ones((5, 8), np.float32))
    with pytest.raises(InputError, match=r"head 5 x 8, features N x 9(.|\n)*another backbone"):
        head.require_match(width=9, num_classes=5)
    with pytest.raises(InputError, match=r"head 5 x 8, data with 6 classes(.|\n)*class list"):
        head.require_match(width=8, num_classes=6)


def test_neighbours__round_trip(tmp_path: Path) -> None:
    found = Neighbours(
        few=np.array([1, 4]),
        ids=np.array([[0, 2], [3, 0]]),
        distances=np.array([[0.5, 1.0], [0.1, 0.2]], np.float32),
        means=np.ones((5, 3), np.float32),
        metric="cosine",
        provenance={"stage": "neighbors"},
    )
    found.save(tmp_path / "neighbors.safetensors")
    loaded = Neighbours.load(tmp_path / "neighbors.safetensors")
    for name in ("few", "ids", "distances", "means"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(found, name))
    assert (loaded.metric, loaded.provenance, loaded.k) == ("cosine", {"stage": "neighbors"}, 2)


def make_trials(seed: int, k: int) -> Trials:
    rng = np.random.default_rng(seed)
    return Trials(
        records=(TrialRecord(0.5, k, seed),),
        neighbors=rng.integers(0, 9, (1, 3, k)),
        alphas=rng.normal(size=(1, 3, k)).astype(np.float32),
        biases=rng.normal(size=(1, 3)).astype(np.float32),
    )


def test_correction__round_trips_with_trials_of_different_k(tmp_path: Path) -> None:
    problem = make_problem()
    few = problem.classes.few
    trials = Trials.join([make_trials(0, 2), make_trials(1, 4)])
    rows = trials.rows(1, problem.head, few)
    correction = Correction(few, rows, trials.biases[1], chosen=Chosen({"rho": 0.5}), trials=trials)
    correction.save(tmp_path / "alphanet.safetensors")
    loaded = Correction.load(tmp_path / "alphanet.safetensors")
    assert loaded.trials is not None
    assert loaded.trials.records == trials.records
    np.testing.assert_array_equal(loaded.trials.rows(1, problem.head, few), rows)
    np.testing.assert_array_equal(loaded.rows, rows)
    short = make_trials(0, 2)
    np.testing.assert_array_equal(
        trials.rows(0, problem.head, few), short.rows(0, problem.head, few)
    )


def test_correction__applies_to_its_rows_only() -> None:
    problem = make_problem()
    few = problem.classes.few
    rows = np.zeros((len(few), problem.head.width), np.float32)
    corrected = Correction(few, rows, np.ones(len(few), np.float32)).apply(problem.head)
    base = problem.classes.base
    np.testing.assert_array_equal(corrected.weight[base], problem.head.weight[base])
    np.testing.assert_array_equal(corrected.bias_or_zeros[base], problem.head.bias_or_zeros[base])
    assert not corrected.weight[few].any()
    assert (corrected.bias_or_zeros[few] == 1).all()


def test_correction__for_another_head_is_refused() -> None:
    correction = Correction(np.array([7]), np.ones((1, 4), np.float32), None)
    with pytest.raises(InputError, match="largest class id 7"):
        correction.apply(Head(np.ones((5, 4), np.float32)))


@pytest.mark.parametrize("value", [ClassTable, Head, Neighbours, Correction])
def test_load__of_a_truncated_file_says_so(value: type, tmp_path: Path) -> None:
    problem = make_problem()
    whole = tmp_path / "whole"
    (problem.classes if value is ClassTable else problem.head).save(whole)
    cut = tmp_path / "cut"
    cut.write_bytes(whole.read_bytes()[:-10])
    with pytest.raises(FileFormatError, match="cut is "):
        value.load(cut)  # type: ignore[attr-defined]


def test_load__of_another_value_says_so(tmp_path: Path) -> None:
    make_problem().head.save(tmp_path / "head.safetensors")
    with pytest.raises(FileFormatError, match="is not a correction"):
        Correction.load(tmp_path / "head.safetensors")
    with pytest.raises(FileFormatError, match="few F, ids F x K"):
        Neighbours.load(tmp_path / "head.safetensors")
