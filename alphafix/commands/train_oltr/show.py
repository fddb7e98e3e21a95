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


def _differ(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and abs(one - other) > 1e-6


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
    for split, figures in evaluation.get("closed_class_mean", {}).items():
        # With as many samples of each class both means are the same.
        if any(_differ(figures[name], evaluation["closed"][split][name]) for name in COLUMNS):
            means = [number(figures[name]) for name in COLUMNS]
            rows.append([f"{split}, closed, mean over classes", *means, "", ""])
    for row in evaluation.get("recognition", ()):
        figures = [number(row["open"][name]) for name in COLUMNS]
        f_measures = [number(row["f_measure"]), number(row["f_measure_old"])]
        rows.append([f"{evaluation['open_on']}, open: {row['method']}", *figures, *f_measures])
    yield Table("Top-1 accuracy", ["", *COLUMNS, "F", "F, old form"], rows)
    by_number = [
        [row["classes"], *(number(row["open"][name]) for name in COLUMNS), number(row["f_measure"])]
        for row in evaluation.get("open_classes", ())
    ]
    if by_number:
        yield Table("With some of the unknown classes", ["classes", *COLUMNS, "F"], by_number)
    detection = [
        [row["method"], number(row["detection_error"]), number(row["auroc"])]
        for row in evaluation.get("detection", ())
    ]
    if detection:
        chosen = evaluation.get("odin")
        notes = (
            [f"ODIN: temperature {chosen['temperature']:g}, step {chosen['step']:g}"]
            if chosen
            else []
        )
        yield Table("Unknown samples", ["", "detection error", "AUROC"], detection, notes)
