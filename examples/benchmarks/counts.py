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
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not (isfinite(found) and found > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return found
