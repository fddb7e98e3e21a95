"""An evaluation as plain text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alphafix.metrics.evaluation import Change, Estimate, Evaluation, TierResult
from alphafix.openset.figures import FIGURES, read_change

LABELS = {
    "top1": "top-1",
    "top5": "top-5",
    "macro": "mean class accuracy",
    "macro_f1": "macro-F1",
    "ece": "calibration error (ECE)",
    "grouped": "top-1 within groups",
    "worst_class": "lowest class accuracy",
    "harmonic_mean": "harmonic mean of splits",
}
"""What each measure is called in text."""

OPEN_LABELS = {
    "f_measure": "open set: F-measure",
    "f_measure_old": "open set: F-measure, old form",
    "auroc": "open set: AUROC",
    "detection_error": "open set: detection error",
    "known_accepted": "open set: known accepted",
    "unknown_accepted": "open set: unknown accepted",
}
"""What each open-set figure is called in text."""


def heading(evaluation: Evaluation) -> list[str]:
    """What was measured on what: always with thresholds and class counts."""
    return [
        f"{evaluation.method} on {evaluation.on}, {evaluation.samples:,} samples",
        evaluation.classes.describe(),
    ]


def text_report(evaluation: Evaluation) -> str:
    """Return the tables that `alphafix evaluate` prints."""
    lines = [*heading(evaluation), "", *columns_of(top1_rows(evaluation)), ""]
    others = [["all in %", "base", "corrected", "change"], *other_rows(evaluation)]
    lines += [*columns_of(others), "", interval_note(evaluation)]
    return "\n".join(lines) + "\n"


def interval_note(evaluation: Evaluation) -> str:
    """What the brackets and p mean."""
    settings = evaluation.settings
    return (
        f"[ ]: 95% bootstrap interval, {settings['bootstrap_draws']:,} draws of samples within "
        f"classes, seed {settings['seed']}; p: McNemar's exact test, two-sided"
    )


def top1_rows(evaluation: Evaluation) -> list[list[str]]:
    """The main table: a header, then top-1 of each split before and after."""
    header = ["top-1 in %", "classes", "samples", "base", "corrected", "change"]
    rows = [_split_row(split) for split in evaluation.tiers]
    return [[*header, "gained/lost", "p"], *rows]


def _split_row(split: TierResult) -> list[str]:
    change, test = split.figures["top1"], split.mcnemar
    empty = "n/a (0 classes)" if split.classes == 0 else "n/a (0 samples)"
    row = [split.name, str(split.classes), f"{split.samples:,}"]
    if test is None:
        return [*row, empty, empty, empty, "", ""]
    return [*row, *change_cells(change), f"+{test.gained} -{test.lost}", p_value(test.p)]


def other_rows(evaluation: Evaluation) -> list[list[str]]:
    """All figures but top-1: name, base, corrected and change."""
    rows = []
    for measure in evaluation.tier("overall").figures:
        if measure == "top1":
            continue
        for split in evaluation.tiers:
            if split.mcnemar is not None:
                cells = change_cells(split.figures[measure])
                rows.append([f"{LABELS[measure]}, {split.name}", *cells])
    rows += [[LABELS[name], *change_cells(change)] for name, change in evaluation.summaries.items()]
    if evaluation.open_set is not None:
        rows += _open_rows(evaluation.open_set)
    return rows


def _open_rows(found: Mapping[str, Any]) -> list[list[str]]:
    """Figures on unknown classes, and each split's top-1 with rejected samples wrong."""
    rows = [[OPEN_LABELS[name], *change_cells(read_change(found[name]))] for name in FIGURES]
    for name, split in found["splits"].items():
        change = read_change(split["open"])
        if change.base is not None:
            rows.append([f"open set: top-1, {name}", *change_cells(change)])
    return rows


def change_cells(change: Change) -> list[str]:
    """Base, corrected and change with their intervals, or n/a."""
    return [
        estimate(change.base),
        estimate(change.corrected),
        estimate(change.change, sign=True),
    ]


def estimate(found: Estimate | None, *, sign: bool = False) -> str:
    """A figure with its interval: "47.3 [44.1, 50.2]"."""
    if found is None:
        return "n/a"
    form = "{:+.1f}" if sign else "{:.1f}"
    value, low, high = (form.format(x + 0.0) for x in (found.value, found.low, found.high))
    return f"{value} [{low}, {high}]"


def p_value(p: float) -> str:
    """A probability, short."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def columns_of(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of aligned columns: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
