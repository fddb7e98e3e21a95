"""How fast the best offset on few-split scores is found, among as many as there are samples.

    python examples/benchmarks/trade_off.py [--json] [--samples 50000]

The reference asks the rule offset by offset; both give the same offset (the tests hold that for
every rule). The target is a ratio within one run.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
from counts import positive

from alphafix.metrics.limits import Limits
from alphafix.metrics.selection import Rule, best_offset
from alphafix.metrics.trade_off import Contest, trade_off
from alphafix.values.classes import ClassTable
from alphafix.values.curve import Curve

CLASSES = ClassTable(("few", "medium", "many"), np.array([5, 50, 500]))


def draw(samples: int) -> Contest:
    """Samples of three classes, none of whose gaps are equal."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, samples)
    right = rng.random(samples) < 0.8
    gap = rng.standard_normal(samples).astype(np.float32)
    return Contest(gap, right & (labels == 0), right & (labels != 0), labels)


def offset_by_offset(curve: Curve, rule: Rule) -> int | None:
    """The reference."""
    best: tuple[float, float] | None = None
    found = None
    for position, offset in enumerate(curve.offsets):
        value = rule.goodness(curve.at(position))
        if best is None or (value, -abs(offset)) > best:
            best, found = (value, -abs(offset)), position
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--samples", type=positive, default=50_000)
    given = parser.parse_args()
    curve = trade_off(draw(given.samples), CLASSES)
    rule = Rule("constrained", curve.at(curve.position(0.0)), Limits(2.0))
    seconds, found = [], []
    for function in (offset_by_offset, best_offset):
        start = time.perf_counter()
        found.append(function(curve, rule))
        seconds.append(time.perf_counter() - start)
    ratio = seconds[0] / seconds[1]
    rows: list[tuple[str, float, str, float | None, bool | None]] = [
        ("offset by offset", seconds[0], "s", None, None),
        ("at once", seconds[1], "s", None, None),
        ("offset by offset / at once", ratio, "x", 20, ratio >= 20 and found[0] == found[1]),
    ]
    if given.json:
        names = ("what", "value", "unit", "target", "met")
        print(json.dumps([dict(zip(names, row, strict=True)) for row in rows], indent=2))
        return
    for what, value, unit, target, met in rows:
        told = "" if target is None else f"  (target {target} {unit}: {'met' if met else 'missed'})"
        print(f"{what:32} {value:10.4g} {unit}{told}")


if __name__ == "__main__":
    main()
