"""A comparison as plain text."""

from __future__ import annotations

from alphafix.metrics.comparison import Comparison, Row
from alphafix.metrics.evaluation import Estimate
from alphafix.report.evaluation_text import columns_of, estimate

HEADER = ["top-1 in %", "few", "medium", "many", "overall", "few change", "overall change", ""]


def comparison_text(comparison: Comparison) -> str:
    """The table and the verdict that `alphafix compare` prints."""
    lines = [
        f"{len(comparison.rows)} methods on {comparison.on}, {comparison.samples:,} samples",
        comparison.classes.describe(),
        "",
        *columns_of([HEADER, *(table_row(row) for row in comparison.rows)]),
        "",
        *legend(comparison),
        "",
        *comparison.verdict,
    ]
    return "\n".join(lines) + "\n"


def table_row(row: Row) -> list[str]:
    """Name, accuracies, changes with intervals, and marks."""
    figures = [_plain(row.figures[name]) for name in ("few", "medium", "many", "overall")]
    changes = [estimate(row.changes[name], sign=True) for name in ("few", "overall")]
    return [row.method.name, *figures, *changes, marks(row)]


def marks(row: Row) -> str:
    """What `legend` explains."""
    found = "" if row.within else "!"
    found += "" if row.method.linear else "n"
    if row.surely_dominated_by:
        found += f" << {row.surely_dominated_by[0]}"
    elif row.dominated_by:
        found += f" < {row.dominated_by[0]}"
    return found.strip()


def legend(comparison: Comparison) -> list[str]:
    """What the marks and brackets mean."""
    draws, seed = (comparison.settings[name] for name in ("bootstrap_draws", "seed"))
    return [
        "< X: X is at least as good on few-split classes and overall and better in one; "
        "<< X: so in 95% of the draws",
        f"!: loses more than {comparison.max_overall_drop:g} points overall on validation; "
        "n: no linear head, so it cannot be patched into a model",
        f"[ ]: 95% bootstrap interval of the paired change, {draws:,} draws within classes, "
        f"seed {seed}; hyper-parameters were chosen on validation",
    ]


def _plain(found: Estimate | None) -> str:
    return "n/a" if found is None else f"{found.value:.1f}"
