"""Types of the benchmarks' options: numbers that can be meant; any other is a usage error."""

from __future__ import annotations

import argparse
from math import isfinite


def positive(text: str) -> int:
    """A type of argparse: 1, 2, ..."""
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def above_zero(text: str) -> float:
    """A type of argparse: a number above zero."""
    if not (found := _number(text)) > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return found


def zero_or_more(text: str) -> float:
    """A type of argparse: a number from zero on, which is to leave out what it is the size of."""
    if not (found := _number(text)) >= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 on")
    return found


def _number(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        return -1.0
    return found if isfinite(found) else -1.0
