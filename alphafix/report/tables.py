"""Values as tables: what notebooks, the command line, Markdown and the page all show."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import singledispatch

from alphafix.errors import counted
from alphafix.features.features import Features
from alphafix.metrics.accuracy import COLUMNS
from alphafix.metrics.comparison import Comparison, Row
from alphafix.metrics.evaluation import Evaluation, TierResult
from alphafix.metrics.figures import tier_name
from alphafix.metrics.open_set import OpenSet
from alphafix.metrics.verdict import spoken_of
from alphafix.openset.figures import FIGURES
from alphafix.report.cells import (
    FALLING,
    LABELS,
    OPEN_LABELS,
    change,
    estimate,
    number,
    p_value,
    paired,
)
from alphafix.values.classes import TIERS, ClassTable
from alphafix.values.correction import Correction
from alphafix.values.display import Table
from alphafix.values.head import Head
from alphafix.values.neighbors import Neighbours


@singledispatch
def table_of(value: object) -> Table:
    """The table that shows a value by itself.

    Raises:
        TypeError: If there is none for values of this type.
    """
    raise TypeError(f"there is no table of a {type(value).__name__}")


@table_of.register
def _table(value: Table) -> Table:
    return value


@table_of.register
def _class_table(value: ClassTable) -> Table:
    rows: list[list[object]] = []
    for name in TIERS:
        counts = value.counts[value.tier(name)]
        ends = (counts.min(), counts.max()) if len(counts) else ("n/a", "n/a")
        rows.append([name, len(counts), f"{counts.sum():,}", *ends])
    header = ["split", "classes", "training samples", "smallest", "largest"]
    return Table(value.describe(), header, rows)


@table_of.register
def _head(value: Head) -> Table:
    source = "arrays" if value.source is None else value.source.file
    tensors = () if value.source is None else value.source.weights + value.source.biases
    rows: list[list[object]] = [
        ["classes", value.num_classes],
        ["feature width", value.width],
        ["bias", "no" if value.bias is None else "yes"],
        ["logit scale", f"{value.scale:g}"],
        ["from", ", ".join([source, *tensors])],
    ]
    return Table("head", [], rows)


@table_of.register
def _features(value: Features) -> Table:
    rows: list[list[object]] = [
        ["samples", f"{len(value):,}"],
        ["feature width", value.width],
        ["classes", value.num_classes],
        ["stored as", value.dtype],
        ["in", value.name],
    ]
    return Table("features", [], rows)


@table_of.register
def _neighbours(value: Neighbours) -> Table:
    rows = [
        [few, *(f"{q} ({d:.3g})" for q, d in zip(ids, distances, strict=True))]
        for few, ids, distances in zip(value.few, value.ids, value.distances, strict=True)
    ]
    header = ["few-split class", *(f"neighbour {rank + 1}" for rank in range(value.k))]
    title = f"{value.k} nearest other classes of {len(value.few)} few-split classes (distance)"
    return Table(title, header, rows, [f"metric: {value.metric}"])


@table_of.register
def _correction(value: Correction) -> Table:
    biases = "unchanged" if value.biases is None else "corrected"
    title = f"{value.method}: {len(value.classes)} corrected rows, biases {biases}"
    chosen = value.chosen
    settings = {name: one for name, one in chosen.settings.items() if name != "curve"}
    after, before = chosen.val, chosen.val_base
    if not after or not before:
        note = "nothing was measured: there were no validation samples"
        return Table(title, [], list(settings.items()), [note])
    rows = [
        [name, number(before[name]), number(after[name]), change(before[name], after[name])]
        for name in COLUMNS
    ]
    header = ["validation top-1 in %", "base", "corrected", "change"]
    notes = [", ".join(f"{k} {v}" for k, v in settings.items())]
    return Table(title, header, rows, notes + ([] if chosen.limit is None else [chosen.limit]))


def heading(evaluation: Evaluation) -> list[str]:
    """What was measured on what: always with thresholds and class counts."""
    return [
        f"{evaluation.method} on {evaluation.on}, {counted(evaluation.samples, 'sample')}",
        evaluation.classes.describe(),
    ]


def interval_note(evaluation: Evaluation) -> str:
    """What the brackets and p mean."""
    made = evaluation.resampling
    return (
        f"[ ]: 95% bootstrap interval, {made.draws:,} draws of samples within "
        f"classes, seed {made.seed}; p: McNemar's exact test, two-sided"
    )


@table_of.register
def _evaluation(value: Evaluation) -> Table:
    """Top-1 of each tier before and after."""
    title, classes = heading(value)
    header = ["top-1 in %", "classes", "samples", "base", "corrected", "change"]
    rows = [_tier_row(tier) for tier in value.tiers]
    notes = [classes, interval_note(value)]
    spare = ("gained/lost", "samples", "classes", "p")
    return Table(title, [*header, "gained/lost", "p"], rows, notes, spare=spare)


def _tier_row(tier: TierResult) -> list[str]:
    test = tier.mcnemar
    empty = "n/a (0 classes)" if tier.classes == 0 else "n/a (0 samples)"
    row = [tier_name(tier.name), str(tier.classes), f"{tier.samples:,}"]
    if test is None:
        return [*row, empty, empty, empty, "", ""]
    cells = paired(tier.figures["top1"])
    return [*row, *cells, f"+{test.gained} -{test.lost}", p_value(test.p)]


def other_figures(evaluation: Evaluation, *, asked: bool = False) -> Table:
    """All figures but top-1: name, base, corrected and change.

    Args:
        evaluation: The evaluation.
        asked: Whether only those that an option of their own asks for: groups, unknown classes.
    """
    rows = [
        [
            f"{LABELS[measure]}, {tier_name(tier.name)}",
            *paired(tier.figures[measure], falls=measure in FALLING),
        ]
        for measure in evaluation.tier("overall").figures
        for tier in evaluation.tiers
        if measure != "top1" and tier.mcnemar is not None and (measure == "grouped" or not asked)
    ]
    summaries = {} if asked else evaluation.summaries
    rows += [[LABELS[name], *paired(found)] for name, found in summaries.items()]
    if evaluation.open_set is not None:
        rows += _open_rows(evaluation.open_set)
    title = "What was asked for beside" if asked else "All other figures"
    return Table(title, ["all in %", "base", "corrected", "change"], rows)


def _open_rows(found: OpenSet) -> list[list[str]]:
    """Figures on unknown classes, and each tier's top-1 with rejected samples wrong."""
    return [
        *(
            [OPEN_LABELS[name], *paired(found.figures[name], falls=name in FALLING)]
            for name in FIGURES
        ),
        *(
            [f"open set: top-1, {name}", *paired(tier.open)]
            for name, tier in found.tiers.items()
            if tier.open.base is not None
        ),
    ]


@table_of.register
def _comparison(value: Comparison) -> Table:
    notes = [value.classes.describe(), *legend(value), *value.verdict]
    title = f"{counted(len(value.rows), 'method')} {_compared_on(value)}"
    return replace(_methods(value, value.rows), title=title, notes=notes)


def frontier_table(value: Comparison) -> Table:
    """The methods that nothing dominates and those that the verdict names, cheapest first."""
    spoken = spoken_of(value.rows, value.roles)
    kept = [
        row
        for row in value.rows
        if row.method.name in spoken or row.method.family == "base" or not row.dominated_by
    ]
    kept.sort(key=_cost)
    title = (
        f"The {len(kept)} of {len(value.rows)} methods that no other dominates, or that are named "
        f"below (--all shows all), {_compared_on(value)}; those that cost least come first"
    )
    table = _methods(value, kept)
    # The method that dominates one of these is another one of these.
    rows = [[*cells[:-1], str(cells[-1]).partition("<")[0].strip()] for cells in table.rows]
    return replace(table, title=title, rows=rows, notes=legend(value, dominated=False))


def _cost(row: Row) -> float:
    overall = row.changes["overall"]
    return 0.0 if overall is None else -overall.value


def _compared_on(value: Comparison) -> str:
    return f"on {value.on}, {counted(value.samples, 'sample')}; {value.limits.describe()}"


def _methods(value: Comparison, rows: Sequence[Row]) -> Table:
    header = ["top-1 in %", *COLUMNS, "few change", "overall change", ""]
    spoken = spoken_of(value.rows, value.roles)
    cells = [_method_row(row, spoken) for row in rows]
    return Table("", header, cells, most=len(cells), left=(len(header) - 1,))


def _method_row(row: Row, spoken: Collection[str]) -> list[str]:
    """Name, accuracies, changes with intervals, and marks."""
    found = [row.figures[name] for name in COLUMNS]
    figures = [number(None if one is None else one.value) for one in found]
    changes = [estimate(row.changes[name], sign=True) for name in ("few", "overall")]
    said = marks(row, spoken=row.method.name in spoken)
    return [row.method.name, *figures, *changes, said]


_DOMINATED = (
    "< X: X is at least as good on few-split classes and overall and better in one; << X: so in "
    "95% of the draws"
)


def marks(row: Row, *, spoken: bool = False) -> str:
    """What `legend` explains; ``spoken`` where the verdict names the method."""
    found = "*" if spoken else ""
    found += "" if row.method.within else "!"
    found += "" if row.method.linear else "n"
    if row.surely_dominated_by:
        found += f" << {row.surely_dominated_by[0]}"
    elif row.dominated_by:
        found += f" < {row.dominated_by[0]}"
    return found.strip()


def legend(comparison: Comparison, *, dominated: bool = True) -> list[str]:
    """What the marks and brackets mean; ``dominated`` where methods say what dominates them."""
    made = comparison.resampling
    return [
        *([_DOMINATED] if dominated else []),
        "*: what the sentences below name; !: validation does not show it to keep the limit, "
        f"{comparison.limits.describe()}; n: no linear head, so it cannot be patched into a model",
        f"[ ]: 95% bootstrap interval of the paired change, {made.draws:,} draws within classes, "
        f"seed {made.seed}; hyper-parameters were chosen on validation",
    ]
