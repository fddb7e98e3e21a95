"""Long work is one bar with the time that is left, however many parts it has."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from alphafix.alphanet.given import Given
from alphafix.alphanet.neighbors import nearest_neighbours
from alphafix.alphanet.settings import FitSettings
from alphafix.metrics.limits import Limits
from alphafix.progress import Advance, Whole
from alphafix.report.layout import lay_out, plain
from alphafix.rivals import AUTO_METHODS
from alphafix.rivals.correct import correct
from tests.rivals.problems import small_data


class Told:
    """Hears of all work: what is a bar of its own, and how far each has come."""

    def __init__(self) -> None:
        self.bars: list[str] = []
        self.parts: list[str] = []
        self.totals: list[int | None] = []
        self.done = 0
        self._depth = 0

    @contextlib.contextmanager
    def __call__(self, what: str, total: int | None) -> Iterator[Advance]:
        outermost = self._depth == 0
        (self.bars if outermost else self.parts).append(what)
        self.totals += [total] if outermost else []

        def advance(count: int) -> None:
            self.done += count * outermost

        self._depth += 1
        yield advance
        self._depth -= 1


@pytest.mark.slow
def test_auto__is_one_bar_to_its_end() -> None:
    data = small_data()
    near = nearest_neighbours(data.train.class_means(), data.classes, k=3)
    given = Given(data.train, data.val, data.head, data.classes, near)
    settings = FitSettings(seeds=(0,), limits=Limits(3.0, confidence=0.5))
    told = Told()
    correct("auto", given, settings, progress=told)
    assert told.bars == ["auto"]
    assert (told.done, told.totals) == (Whole.UNITS, [Whole.UNITS])
    parts = [part.partition(" (")[0] for part in told.parts]
    assert parts[:3] == [
        "AlphaNet, neighbors",
        "AlphaNet, neighbors+discriminant",
        "other methods",
    ]
    assert sorted(parts[3:]) == sorted(AUTO_METHODS)


def test_whole__a_part_moves_by_what_it_is_told_to_move_by() -> None:
    told = Told()
    with Whole(told, "all", {"one": 3.0, "two": 1.0}) as whole:
        with whole.part("one", moved_by="steps") as within:
            for name in ("steps", "others"):
                with within(name, 4) as advance:
                    advance(2)
            assert told.done == 375
        assert told.done == 750
        with whole.part("two"):
            pass
    assert told.done == Whole.UNITS


def test_whole__parts_that_are_one_to_a_person_are_told_of_once() -> None:
    told = Told()
    costs = {"one": 1.0, "on one": 1.0, "on two": 1.0}
    with Whole(told, "all", costs, {"on one": "others", "on two": "others"}) as whole:
        for name in costs:
            with whole.part(name):
                pass
    assert told.parts == ["one (1 of 2)", "others (2 of 2)"]
    assert told.done == Whole.UNITS


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("  0.5 s  one two", ["  0.5 s  one", "         two"]),
        ("105.2 s  one two", ["105.2 s  one", "         two"]),
        ("  got:  one two three", ["  got:  one", "        two", "        three"]),
    ],
)
def test_lines__go_on_below_their_first_word(text: str, shown: list[str]) -> None:
    assert plain(lay_out([text], 14)).splitlines() == shown
