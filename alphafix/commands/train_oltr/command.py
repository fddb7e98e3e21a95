"""`alphafix train-oltr`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from alphafix.commands import console
from alphafix.commands.flags import takes
from alphafix.commands.train_oltr.options import TrainOltrOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from alphafix.commands.train_oltr.work import TrainOltrResult

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_COLUMNS = ("few", "medium", "many", "overall")


@app.command(
    epilog="Example: alphafix train-oltr --data photos-lt --root photos --recipe cifar100-lt "
    "--epochs 10"
)
@takes(TrainOltrOptions)
def train_oltr(
    options: TrainOltrOptions,
    json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Train a base model on long-tailed images: OLTR, or one of its competitors.

    The result is a backbone: `alphafix extract --backbone oltr:DIR`.
    """
    from alphafix.commands.train_oltr.work import train_oltr as run_stage
    from alphafix.progress import silent

    # Under torchrun one process speaks for all.
    first = os.environ.get("RANK", "0") == "0"
    if first:
        console.show_log()
    found = run_stage(options, progress=console.bar if first else silent)
    if not first:
        return
    if json:
        console.print_json(found.to_dict())
        return
    for table in _tables(found):
        console.stderr.print(table)
    console.note(found.classes.describe())
    console.print_result(str(found.folder))


def _tables(found: TrainOltrResult) -> Iterator[Table]:
    evaluation = found.evaluation
    rows = [
        [f"{split}, closed", *(_cell(figures[name]) for name in _COLUMNS), "", ""]
        for split, figures in evaluation["closed"].items()
    ]
    for row in evaluation.get("recognition", ()):
        figures = [_cell(row["open"][name]) for name in _COLUMNS]
        f_measures = [_cell(row["f_measure"]), _cell(row["f_measure_old"])]
        rows.append([f"{evaluation['open_on']}, open: {row['method']}", *figures, *f_measures])
    yield console.table("Top-1 accuracy", ["", *_COLUMNS, "F", "F, old form"], rows)
    detection = [
        [row["method"], _cell(row["detection_error"]), _cell(row["auroc"])]
        for row in evaluation.get("detection", ())
    ]
    if detection:
        yield console.table("Unknown samples", ["", "detection error", "AUROC"], detection)


def _cell(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.1f}"
