"""Markdown tables from the results of ``oltr_comparison.py``: OLTR's Table 3 and Figure 5.

python examples/glyphs_lt/oltr_tables.py examples/glyphs_lt/results/oltr.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import reduce
from operator import getitem
from pathlib import Path
from statistics import mean, stdev
from typing import Any

Figures = dict[str, Any]

TIERS = ("many", "medium", "few", "overall")

# Titles, and where the figure is in a row.
Columns = dict[str, tuple[str, ...]]

CLOSED: Columns = {split: ("closed", split) for split in TIERS}
OPEN: Columns = {
    **{split: ("open", split) for split in TIERS},
    "F": ("f_measure",),
    "F, old form": ("f_measure_old",),
    "AUROC": ("auroc",),
    "detection error": ("detection_error",),
    "unknown accepted": ("unknown_accepted",),
}
ACCEPTING_95: Columns = {
    "overall": ("open", "overall"),
    "F": ("f_measure",),
    "known accepted": ("known_accepted",),
    "unknown accepted": ("unknown_accepted",),
}
LENGTHS: Columns = {
    "γ": ("gamma",),
    "meta-embedding": ("meta",),
    "after squashing": ("squashed",),
}
DETECTION: Columns = {"AUROC": ("auroc",), "detection error": ("detection_error",)}


def figures(run: Figures) -> list[Figures]:
    """Rows of one run: of the model, and of OpenMax on it where that was evaluated."""
    rows = []
    for recognition, detection in zip(run["recognition"], run["detection"], strict=True):
        extra = "" if detection["method"] == "max-softmax" else f" + {detection['method']}"
        rows.append({**detection, **recognition, "row": run["row"] + extra})
    for found in run.get("openmax_ranks", []):
        if found["rank"] == 1:
            rows.append({**found, "row": f"{run['row']} + OpenMax, 1 class revised"})
    return rows


def table(rows: Sequence[Figures], columns: Columns) -> str:
    """Mean ± standard deviation (ddof = 1) over seeds of each row, as Markdown."""
    digits = 2 if columns is LENGTHS else 1
    names = list(dict.fromkeys(row["row"] for row in rows))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name in names:
        mine = [row for row in rows if row["row"] == name]
        cells = [
            over_seeds([reduce(getitem, path, row) for row in mine], digits)
            for path in columns.values()
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def over_seeds(values: Sequence[Any], digits: int = 1) -> str:
    """Mean ± standard deviation of what there is."""
    found = [value for value in values if value is not None]
    if not found:
        return "n/a"
    spread = f" ± {stdev(found):.{digits}f}" if len(found) > 1 else ""
    return f"{mean(found):.{digits}f}{spread}"


def markdown(results: Figures) -> str:
    """All tables."""
    runs = results["runs"]
    groups = {
        group: [row for run in runs if group in run["tables"] for row in figures(run)]
        for group in ("methods", "ablations")
    }
    accepting = [{**run["accepting_95"], "row": run["row"]} for run in runs]
    distances = [{**run["distances"], "row": run["row"]} for run in runs if "distances" in run]
    medians = [
        {**found[kind], "row": f"{kind} glyphs"}
        for kind in ("known", "unknown")
        for found in results["lengths"]
    ]
    content = [
        ("Closed set, top-1 in percent:", groups["methods"], CLOSED),
        ("With unknown glyphs, softmax threshold 0.1:", groups["methods"], OPEN),
        ("With the threshold that 95% of the validation images pass:", accepting, ACCEPTING_95),
        ("Unknown glyphs told by the distance to the nearest class mean:", distances, DETECTION),
        ("Lengths in OLTR, median over glyphs:", medians, LENGTHS),
        ("OLTR without one of its parts, closed set:", groups["ablations"], CLOSED),
        ("The same with unknown glyphs:", groups["ablations"], OPEN),
    ]
    parts = [f"{title}\n\n{table(rows, columns)}" for title, rows, columns in content]
    return "\n\n".join([*parts, *processor_time(runs)])


def processor_time(runs: Sequence[Figures]) -> list[str]:
    """A sentence about the seeds that were trained without interruption."""
    spent: dict[int, list[float | None]] = {}
    for run in runs:
        spent.setdefault(run["seed"], []).append(run["cpu_seconds"])
    whole = [sum(filter(None, seconds)) for seconds in spent.values() if None not in seconds]
    if not whole:
        return []
    return [
        f"Processor time a seed, all trainings and evaluations: {mean(whole) / 60:.0f} minutes."
    ]


if __name__ == "__main__":
    print(markdown(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
