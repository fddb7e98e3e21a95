"""What a person sees of a trained base model."""

from __future__ import annotations

from collections.abc import Iterator

from alphafix.commands.command import Shown
from alphafix.commands.train_oltr.options import TrainOltrOptions
from alphafix.commands.train_oltr.work import TrainOltrResult
from alphafix.metrics.accuracy import COLUMNS
from alphafix.report.cells import number
from alphafix.values.display import Table


def show(found: TrainOltrResult, options: TrainOltrOptions) -> Shown:
    """Closed-set and open-set figures, the classes, and the folder."""
    told: list[Table | str] = [*_tables(found), *_experts(found), found.classes.describe()]
    return Shown(str(found.folder), told)


def _experts(found: TrainOltrResult) -> Iterator[str]:
    """How many experts a routed model asks."""
    asked = found.evaluation.get("experts", {})
    if asked:
        means = ", ".join(f"{mean:.2f} on {split}" for split, mean in asked.items())
        yield f"experts that an image asks on average: {means}"


def _tables(found: TrainOltrResult) -> Iterator[Table]:
    evaluation = found.evaluation
    rows = [
        [f"{split}, closed", *(number(figures[name]) for name in COLUMNS), "", ""]
        for split, figures in evaluation["closed"].items()
    ]
    for row in evaluation.get("recognition", ()):
        figures = [number(row["open"][name]) for name in COLUMNS]
        f_measures = [number(row["f_measure"]), number(row["f_measure_old"])]
        rows.append([f"{evaluation['open_on']}, open: {row['method']}", *figures, *f_measures])
    yield Table("Top-1 accuracy", ["", *COLUMNS, "F", "F, old form"], rows)
    detection = [
        [row["method"], number(row["detection_error"]), number(row["auroc"])]
        for row in evaluation.get("detection", ())
    ]
    if detection:
        yield Table("Unknown samples", ["", "detection error", "AUROC"], detection)
