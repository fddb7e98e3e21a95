"""How many training images each class gets: by a law, or as the user says."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from alphafix.errors import InputError, option
from alphafix.images.tables import rows_of
from alphafix.reading.limits import MOST_ELEMENTS
from alphafix.reading.schema import parse_json
from alphafix.values.arrays import IntArray


def pareto_counts(num_classes: int, *, power: float, most: int, least: int) -> IntArray:
    """Counts that fall as sorted draws of a Pareto distribution do, as in ImageNet-LT.

    n_i = least + (most - least) · (u_i^(-1/power) - 1) / (C^(1/power) - 1) with u_i = i / C,
    i = 1..C: the quantiles of NumPy's ``pareto(power)``, stretched to the two ends. With
    C = 1000, power 6 and 1280 to 5 images this gives 121,937 images and 136 few-split classes;
    ImageNet-LT, a random draw, has 115,846 and 136. A power of the rank gives 166,000 or more.

    Args:
        num_classes: C.
        power: Of the distribution; less is more imbalanced.
        most: Images of the first class.
        least: Images of the last one.

    Returns:
        int64 of shape C, descending.
    """
    if num_classes == 1:
        return np.array([most], dtype=np.int64)
    quantile = np.arange(1, num_classes + 1) / num_classes
    shares = (quantile ** (-1 / power) - 1) / (num_classes ** (1 / power) - 1)
    counts: IntArray = np.rint(least + (most - least) * shares).astype(np.int64)
    return counts


def exponential_counts(num_classes: int, *, imbalance: float, most: int) -> IntArray:
    """n_i = int(most · (1 / imbalance)^(i / (C - 1))), i = 0..C-1, as in CIFAR-100-LT.

    Args:
        num_classes: C.
        imbalance: Images of the first class over those of the last.
        most: Images of the first class.

    Returns:
        int64 of shape C, descending.
    """
    steps = max(1, num_classes - 1)
    # In Python's numbers, as in the code that made the published lists: int() cuts, so that a
    # last digit decides.
    counts = [int(most * (1 / imbalance) ** (i / steps)) for i in range(num_classes)]
    return np.array(counts, dtype=np.int64)


def largest_fitting(profile: Callable[[int], IntArray], available: IntArray) -> int:
    """The largest first count of which every class has enough images; 0 if there is none.

    Args:
        profile: Counts by rank (shape C), given the first one; they rise with it.
        available: Images of the class of each rank, int64 of shape C.
    """
    low, high = 0, int(available.max())
    while low < high:
        middle = (low + high + 1) // 2
        if (profile(middle) <= available).all():
            low = middle
        else:
            high = middle - 1
    return low


def given_counts(source: str, names: Iterable[str]) -> IntArray:
    """Counts that the user gives, int64 of shape C in the order of ``names``.

    Args:
        source: A file (JSON ``{class: count}``, or lines of class and count), or
            "class=count,class=count,...".
        names: The C classes.

    Raises:
        InputError: If it cannot be read, a class is missing, unknown or named twice, or a
            count is no positive whole number.
    """
    found: dict[str, int] = {}
    for name, text in _pairs(source):
        if name in found:
            raise _bad(source, f"{name!r} twice", "each class once")
        # By its length first: int() takes 4,300 digits, an int64 19.
        digits = len(text) <= 19 and text.isascii() and text.isdigit()
        if not digits or not 0 < int(text) <= MOST_ELEMENTS:
            got = f"{name!r} with {text[:40]!r}"
            raise _bad(source, got, f"a number of images from 1 to {MOST_ELEMENTS:,}")
        found[name] = int(text)
    wanted = tuple(names)
    missing = [name for name in wanted if name not in found]
    unknown = sorted(set(found) - set(wanted))
    if missing or unknown:
        got = f"no count of {missing[0]!r}" if missing else f"{unknown[0]!r}, which is no class"
        raise _bad(source, got, f"a count of each of the {len(wanted)} known classes")
    return np.array([found[name] for name in wanted], dtype=np.int64)


def _pairs(source: str) -> list[tuple[str, str]]:
    path = Path(source)
    if "=" in source and not os.path.isfile(source):  # which may be longer than names
        parts = [part.rpartition("=") for part in source.split(",")]
        return [(name.strip(), count.strip()) for name, _, count in parts]
    if not path.is_file():
        raise _bad(source, "no such file", "a file, or class=count,class=count,...")
    if path.suffix != ".json":
        return [(row.path, row.label) for row in rows_of(path)]
    try:
        data = parse_json(path.read_text(encoding="utf-8"))
        return [(str(name), str(count)) for name, count in data.items()]
    except (ValueError, AttributeError) as error:
        raise _bad(source, str(error), "a JSON object {class: count}") from error


def _bad(source: str, got: str, expected: str) -> InputError:
    return InputError(
        f"{source} does not say how many images each class gets",
        got=got,
        expected=expected,
        todo=f"correct {option('counts')}",
    )
