"""Which methods of a comparison can be steered: those that `alphafix train` can make again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from alphafix.features.features import Features
from alphafix.metrics.comparison import Method, Row
from alphafix.metrics.margins import Steered, margins
from alphafix.rivals.data import Fitted
from alphafix.values.arrays import FloatArray, IntArray

# Methods whose every offset is kept for the page, at most: they take 12 bytes a sample each.
STEERED = 10

# Begins the name of a row that has a method with another setting than that of its own row.
CHOICE = "chosen"

# Behind the name of AlphaNet with an offset.
CALIBRATED = " + few-bias"


def choice_name(method: str, among: str | None) -> str:
    """The name of a row for a method with another setting than that of its own row.

    Args:
        method: The method's name.
        among: Of which methods it was chosen; None for all.
    """
    return f"{CHOICE}: {method}" if among is None else f"{CHOICE} of {among}: {method}"


def own_name(name: str) -> str:
    """The name of the method that a row has, which may be a choice's."""
    return name.partition(": ")[2] if name.startswith(CHOICE) else name


def best_first(rows: Iterable[Row], roles: Mapping[str, str]) -> list[str]:
    """Names of methods: those that the verdict speaks of, those that nothing dominates, the rest.

    Args:
        rows: The rows of the comparison.
        roles: What the verdict speaks of, by role.
    """
    spoken = [own_name(name).removesuffix(CALIBRATED) for name in roles.values()]
    free = [row.method.name for row in rows if not row.dominated_by]
    return list(dict.fromkeys([*spoken, *free, *(row.method.name for row in rows)]))


def steered(
    test: Features,
    methods: Sequence[tuple[Method, Fitted]],
    order: Sequence[str],
    *,
    options: Callable[[Method], dict[str, Any] | None],
    few: IntArray,
) -> tuple[Steered, ...]:
    """The methods that can be made again, with the margins of the test samples.

    Args:
        test: Features and labels.
        methods: The methods with what was fitted.
        order: Names, the most important first; at most `STEERED` are taken.
        options: The options of `alphafix train` that make a method again; None if there are none.
        few: Ids of the few-split classes, int64.
    """
    found = {}
    for method, one in methods:
        train = options(method)
        # A few-bias moves the base head itself, which is at hand wherever there is a page.
        if train is not None and method.name != "few-bias":
            found[method.name] = (one, train)
    kept = [found[name] for name in order if name in found][:STEERED]

    def scores(features: FloatArray) -> Iterator[FloatArray]:
        return (one.logits(features) for one, _ in kept)

    measured = margins(test, scores, few)
    return tuple(
        Steered(one.method, its, float(one.settings.get("offset", 0.0)), train)
        for (one, train), its in zip(kept, measured, strict=True)
    )
