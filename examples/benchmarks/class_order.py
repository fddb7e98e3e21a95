"""How long a class map of many classes takes to read, beside counting each name in the whole list.

    python examples/benchmarks/class_order.py [--json] [--classes 20000]

The reference is what alphafix did before: quadratic in the number of classes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from counts import positive

from alphafix.images.order import read_class_map


def quadratic(names: Sequence[str]) -> list[str]:
    """Names that are there more than once, each counted in the whole list."""
    return sorted({name for name in names if names.count(name) > 1})


def seconds_of(function: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--classes", type=positive, default=20_000)
    given = parser.parse_args()
    names = [f"class {number}" for number in range(given.classes)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "classes.txt"
        path.write_text("\n".join(names))
        ours = min(seconds_of(lambda: read_class_map(path)) for _ in range(5))
    before = seconds_of(lambda: quadratic(names))
    rows = [
        (f"class map of {given.classes:,} names", ours, "s", None, None),
        ("each name counted in the whole list", before, "s", None, None),
        ("before / now", before / ours, "x", 100, before / ours >= 100),
    ]
    if given.json:
        keys = ("what", "value", "unit", "target", "met")
        print(json.dumps([dict(zip(keys, row, strict=True)) for row in rows], indent=2))
        return
    for what, value, unit, *_ in rows:
        print(f"{what:<44}{value:>12.4g} {unit}")


if __name__ == "__main__":
    main()
