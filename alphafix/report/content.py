"""What the page says: verdict, tables, and the classes that changed most."""

from __future__ import annotations

from typing import Any

import numpy as np

from alphafix.metrics.comparison import Comparison
from alphafix.metrics.evaluation import Change, Evaluation
from alphafix.report.analysis import top_confusions
from alphafix.report.collect import Material, pictures, trade_off_picture
from alphafix.report.combinations import Learned, learned
from alphafix.report.comparison_text import HEADER, legend, table_row
from alphafix.report.evaluation_text import (
    estimate,
    heading,
    interval_note,
    other_rows,
    top1_rows,
)
from alphafix.report.memory_pictures import infused_table
from alphafix.report.page import Card, ClassColumns, Page, Table
from alphafix.report.pictures import Picture
from alphafix.report.style import svg_text
from alphafix.report.thumbnails import thumbnails

# Classes shown in full that gain most, and as many that lose most.
MOST_CARDS = 9

NO_COMPARISON = (
    "How simpler methods do on the same features is not known yet: run `alphafix compare`, then "
    "`alphafix report` again."
)


def page_of(material: Material) -> tuple[Page, list[tuple[Picture, str]]]:
    """The page, and every figure with its SVG."""
    evaluation, comparison = material.evaluation, material.comparison
    drawn = [(picture, svg_text(picture.drawing)) for picture in pictures(material)]
    frontier = []
    if comparison is not None:
        picture = trade_off_picture(comparison)
        frontier = [(picture, svg_text(picture.drawing))]
    cards = _Cards(material)
    header, *rows = top1_rows(evaluation)
    others = Table(["all in %", "base", "corrected", "change"], other_rows(evaluation))
    tables = {
        "Accuracy": Table(header, rows, interval_note(evaluation)),
        "All other figures": others,
        **_memory_table(material),
    }
    page = Page(
        title="What the correction gains and costs",
        subtitle=heading(evaluation),
        verdict=verdict(evaluation, comparison),
        tables=tables,
        frontier=_frontier(comparison),
        gains=cards.of(gaining=True),
        losses=cards.of(gaining=False),
        classes=_columns(material),
        pictures=drawn,
        frontier_pictures=frontier,
        provenance=dict(evaluation.provenance),
    )
    return page, [*frontier, *drawn]


def _memory_table(material: Material) -> dict[str, Table]:
    """What the base model's memory gives to the rarest classes, if it has one."""
    if material.embedding is None or material.embedding.memory is None:
        return {}
    note = (
        "Mean coefficients of the base model's memory over sampled images of the class: its own, "
        "and the largest of other classes (OLTR, Eq. 1, Figure 14)."
    )
    table = infused_table(material.embedding.memory, material.evaluation.classes)
    return {"What rare classes borrow from others": Table(*table, note)}


def verdict(evaluation: Evaluation, comparison: Comparison | None) -> list[str]:
    """Three sentences: what rare classes gain, what it costs, and what else there is."""
    few = evaluation.tier("few")
    gain = f"On the {few.classes} few-split classes, {_moved(few.figures['top1'])}."
    base, overall = (evaluation.tier(name).figures["top1"] for name in ("base", "overall"))
    cost = f"On all other classes {_moved(base)}; over all classes {_moved(overall)}."
    if comparison is None:
        return [gain, cost, NO_COMPARISON]
    # The second sentence of a comparison sets AlphaNet against the simpler methods.
    sentences = comparison.verdict
    return [gain, cost, sentences[1] if len(sentences) > 1 else sentences[0]]


def _moved(change: Change) -> str:
    """How top-1 accuracy moved, and whether that is more than chance."""
    if change.base is None or change.corrected is None or change.change is None:
        return "accuracy could not be measured (no samples)"
    found = change.change
    if found.low <= 0 <= found.high:
        word = "does not change measurably"
    else:
        word = "rises" if found.value > 0 else "falls"
    return (
        f"top-1 accuracy {word}: {change.base.value:.1f}% before, {change.corrected.value:.1f}% "
        f"after, {estimate(found, sign=True)} points"
    )


def _frontier(comparison: Comparison | None) -> tuple[list[str], Table | None]:
    if comparison is None:
        return [NO_COMPARISON], None
    note = ". ".join(legend(comparison)) + "."
    table = Table(HEADER, [table_row(row) for row in comparison.rows], note)
    return list(comparison.verdict), table


class _Cards:
    """The classes that gain and lose most, with what was learned for them."""

    def __init__(self, material: Material) -> None:
        self.material = material
        self.change = material.evaluation.by_class.change
        self.learned = learned(material.correction)
        labels, count = material.store.labels, len(self.change)
        self.before = top_confusions(material.before.predicted, labels, count)
        self.after = top_confusions(material.after.predicted, labels, count)

    def of(self, *, gaining: bool) -> list[Card]:
        """The cards of one side; classes that do not change are left out.

        Few-split classes come first among those that gain, as their rows are what changed.
        """
        order = np.argsort(-self.change if gaining else self.change, kind="stable")
        moved = [i for i in order.tolist() if (self.change[i] > 0) == gaining and self.change[i]]
        wanted = [i for i in moved if np.isfinite(self.change[i])][:MOST_CARDS]
        images = thumbnails(self.material.store, self.material.evaluation.classes, wanted)
        return [self._card(i, self.learned, images.get(i)) for i in wanted]

    def _card(self, label: int, found: Learned | None, image: str | None) -> Card:
        classes, results = self.material.evaluation.classes, self.material.evaluation.by_class
        samples = int(results.samples[label])
        base, corrected = (
            100 * int(part[label]) / samples for part in (results.base, results.corrected)
        )
        lines = [
            f"{classes.counts[label]} training samples; {base:.1f}% → {corrected:.1f}% of "
            f"{samples} ({self.change[label]:+.1f})",
            f"before, taken for: {self._confusions(self.before.get(label, []))}",
            f"after, taken for: {self._confusions(self.after.get(label, []))}",
        ]
        if found is not None and label in found.classes:
            lines.insert(1, found.text(label, classes))
        return Card(classes.names[label], lines, image)

    def _confusions(self, found: list[tuple[int, int]]) -> str:
        names = self.material.evaluation.classes.names
        return ", ".join(f"{names[other]} ({count})" for other, count in found) or "none"


def _columns(material: Material) -> ClassColumns:
    """One row a class."""
    evaluation = material.evaluation
    classes, results = evaluation.classes, evaluation.by_class
    after = top_confusions(material.after.predicted, material.store.labels, len(classes), most=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        base, corrected = (
            100.0 * part / results.samples for part in (results.base, results.corrected)
        )
    splits = ("few", "medium", "many")
    rows: list[list[Any]] = [
        [
            classes.names[i],
            splits[classes.tiers[i]],
            int(classes.counts[i]),
            int(results.samples[i]),
            _number(base[i]),
            _number(corrected[i]),
            _number(results.change[i]),
            _number(results.low[i]),
            _number(results.high[i]),
            classes.names[after[i][0][0]] if i in after else "",
        ]
        for i in range(len(classes))
    ]
    return ClassColumns(
        header=(
            "class",
            "split",
            "training",
            "samples",
            "base %",
            "corrected %",
            "change",
            "from",
            "to",
            "most often taken for",
        ),
        kinds=("text", "word", "number", "number", "percent", "percent", *("change",) * 3, "text"),
        rows=rows,
        sort=6,
    )


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)
