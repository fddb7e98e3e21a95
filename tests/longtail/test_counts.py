from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphafix.errors import InputError
from alphafix.longtail.counts import (
    exponential_counts,
    given_counts,
    largest_fitting,
    pareto_counts,
)
from alphafix.values.classes import ClassTable


@pytest.mark.parametrize(
    ("classes", "most", "imbalance", "images"),
    [
        (100, 500, 100, 10_847),
        (100, 500, 50, 12_608),
        (100, 500, 10, 19_573),
        (10, 5000, 100, 12_406),
    ],
)
def test_exponential__published_sizes_of_cifar_lt(
    classes: int, most: int, imbalance: int, images: int
) -> None:
    assert exponential_counts(classes, imbalance=imbalance, most=most).sum() == images


def test_pareto__hand_computed() -> None:
    found = pareto_counts(4, power=1, most=34, least=4)
    # u = 1/4, 2/4, 3/4, 1; 1/u - 1 = 3, 1, 1/3, 0 of 3.
    assert found.tolist() == [34, 14, 7, 4]


def test_pareto__as_many_few_split_classes_as_imagenet_lt() -> None:
    counts = pareto_counts(1000, power=6, most=1280, least=5)
    classes = ClassTable(tuple(str(i) for i in range(1000)), counts)
    assert len(classes.few) == 136
    assert counts.sum() == pytest.approx(115_846, rel=0.06)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 300), st.floats(0.1, 50), st.integers(1, 50), st.integers(0, 2000))
def test_pareto__falls_from_most_to_least(
    classes: int, power: float, least: int, more: int
) -> None:
    found = pareto_counts(classes, power=power, most=least + more, least=least)
    assert found[0] == least + more
    assert (np.diff(found) <= 0).all()
    assert found[-1] == (least if classes > 1 else least + more)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=2, max_size=8), st.floats(1, 100))
def test_largest_fitting__one_more_does_not_fit(available: list[int], imbalance: float) -> None:
    there = np.array(available)

    def profile(most: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return exponential_counts(len(available), imbalance=imbalance, most=most)

    found = largest_fitting(profile, there)
    assert (profile(found) <= there).all()
    assert found == there.max() or (profile(found + 1) > there).any()


@pytest.mark.parametrize(
    ("name", "text"),
    [("counts.txt", "b 7\nclass a 12\n"), ("counts.json", '{"class a": 12, "b": "7"}')],
)
def test_given__from_a_file(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    assert given_counts(str(tmp_path / name), ["class a", "b"]).tolist() == [12, 7]


def test_given__from_the_command_line() -> None:
    assert given_counts("b=7, class a=12", ["class a", "b"]).tolist() == [12, 7]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("a=1", "no count of 'b'"),
        ("a=1,b=2,c=3", "'c', which is no class"),
        ("a=1,b=0", "'b' with '0'"),
        ("a=1,b=2,a=3", "'a' twice"),
        ("a=1,b=-2", "'b' with '-2'"),
        (f"a=1,b={2**63}", "a number of images from 1 to 9,223,372,036,854,775,807"),
        (f"a=1,b={'9' * 5000}", "'b' with '9999"),
        ("nowhere.txt", "no such file"),
    ],
)
def test_given__says_what_is_wrong(source: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        given_counts(source, ["a", "b"])
