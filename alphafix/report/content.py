"""What the page says: verdict, tables, and the classes that changed most."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from alphafix.metrics.comparison import Comparison
from alphafix.metrics.estimates import Paired
from alphafix.metrics.evaluation import Evaluation
from alphafix.report.analysis import top_confusions
from alphafix.report.cells import estimate
from alphafix.report.collect import Evidence, pictures, trade_off_picture
from alphafix.report.combinations import Learned, learned
from alphafix.report.memory_pictures import infused_table
from alphafix.report.page import Card, ClassColumns, Drawn, Frontier, Page
from alphafix.report.style import svg_text
from alphafix.report.tables import heading, interval_note, legend, other_figures, table_of
from alphafix.report.thumbnails import thumbnails
from alphafix.values.classes import TIERS
from alphafix.values.display import Table

# Classes shown in full that gain most, and as many that lose most.
MOST_CARDS = 9

NO_COMPARISON = (
    "How simpler methods do on the same features is not known yet: run `alphafix compare`, then "
    "`alphafix report` again."
)


def page_of(evidence: Evidence) -> Page:
    """The page with every figure of it."""
    evaluation, comparison = evidence.found.evaluation, evidence.comparison
    gains, losses = (_Cards(evidence).of(gaining=gaining) for gaining in (True, False))
    accuracy = replace(table_of(evaluation), title="Accuracy", notes=[interval_note(evaluation)])
    return Page(
        title="What the correction gains and costs",
        subtitle=heading(evaluation),
        verdict=verdict(evaluation, comparison),
        tables=[accuracy, other_figures(evaluation), *_memory_table(evidence)],
        frontier=_frontier(comparison),
        gains=gains,
        losses=losses,
        classes=_columns(evidence),
        pictures=[Drawn(picture, svg_text(picture.drawing)) for picture in pictures(evidence)],
        provenance=evaluation.provenance,
    )


def _memory_table(evidence: Evidence) -> list[Table]:
    """What the base model's memory gives to the rarest classes, if it has one."""
    if evidence.embedding is None or evidence.embedding.memory is None:
        return []
    return [infused_table(evidence.embedding.memory, evidence.found.evaluation.classes)]


def verdict(evaluation: Evaluation, comparison: Comparison | None) -> list[str]:
    """Three sentences: what rare classes gain, what it costs, and what else there is."""
    few = evaluation.tier("few")
    gain = f"On the {few.classes} few-split classes, {_moved(few.figures['top1'])}."
    base, overall = (evaluation.tier(name).figures["top1"] for name in ("base", "overall"))
    cost = f"On all other classes {_moved(base)}; over all classes {_moved(overall)}."
    if comparison is None:
        return [gain, cost, NO_COMPARISON]
    # The first sentence of a comparison is for a person who decides.
    return [gain, cost, comparison.verdict[0]]


def _moved(change: Paired) -> str:
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


def _frontier(comparison: Comparison | None) -> Frontier:
    if comparison is None:
        return Frontier([NO_COMPARISON])
    picture = trade_off_picture(comparison)
    table = replace(table_of(comparison), notes=[". ".join(legend(comparison)) + "."])
    return Frontier(comparison.verdict, table, [Drawn(picture, svg_text(picture.drawing))])


class _Cards:
    """The classes that gain and lose most, with what was learned for them."""

    def __init__(self, evidence: Evidence) -> None:
        self.found = evidence.found
        self.change = self.found.evaluation.by_class.change
        self.learned = learned(self.found.correction)
        both, count = self.found.both, len(self.change)
        self.before = top_confusions(both.before.predicted, both.labels, count)
        self.after = top_confusions(both.after.predicted, both.labels, count)

    def of(self, *, gaining: bool) -> list[Card]:
        """The cards of one side; classes that do not change are left out.

        Few-split classes come first among those that gain, as their rows are what changed.
        """
        order = np.argsort(-self.change if gaining else self.change, kind="stable")
        moved = [i for i in order.tolist() if (self.change[i] > 0) == gaining and self.change[i]]
        wanted = [i for i in moved if np.isfinite(self.change[i])][:MOST_CARDS]
        images = thumbnails(self.found.store, self.found.evaluation.classes, wanted)
        return [self._card(i, self.learned, images.get(i)) for i in wanted]

    def _card(self, label: int, found: Learned | None, image: str | None) -> Card:
        classes, results = self.found.evaluation.classes, self.found.evaluation.by_class
        base, corrected = results.base_accuracy[label], results.corrected_accuracy[label]
        lines = [
            f"{classes.counts[label]} training samples; {base:.1f}% → {corrected:.1f}% of "
            f"{results.samples[label]} ({self.change[label]:+.1f})",
            f"before, taken for: {self._confusions(self.before.get(label, []))}",
            f"after, taken for: {self._confusions(self.after.get(label, []))}",
        ]
        if found is not None and label in found.classes:
            lines.insert(1, found.text(label, classes))
        return Card(classes.names[label], lines, image)

    def _confusions(self, found: list[tuple[int, int]]) -> str:
        names = self.found.evaluation.classes.names
        return ", ".join(f"{names[other]} ({count})" for other, count in found) or "none"


def _columns(evidence: Evidence) -> ClassColumns:
    """One row a class."""
    evaluation = evidence.found.evaluation
    classes, results = evaluation.classes, evaluation.by_class
    both = evidence.found.both
    after = top_confusions(both.after.predicted, both.labels, len(classes), most=1)
    base, corrected = results.base_accuracy, results.corrected_accuracy
    rows: list[list[Any]] = [
        [
            classes.names[i],
            TIERS[classes.tiers[i]],
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
