"""What the page says: result, verdict, who pays, tables, and the classes that changed most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from alphafix.errors import counted
from alphafix.metrics.accuracy import COLUMNS, tier_accuracy
from alphafix.metrics.comparison import BASE, Comparison
from alphafix.metrics.margins import Margins, Steered, margins
from alphafix.metrics.paired import SHOWN, Difference, differences
from alphafix.metrics.predictions import pair_scores
from alphafix.report.analysis import top_confusions
from alphafix.report.cells import number
from alphafix.report.collect import Evidence, pictures, trade_off_picture
from alphafix.report.combinations import learned
from alphafix.report.known import known_classes, listed_classes
from alphafix.report.memory_pictures import infused_table
from alphafix.report.page import Classes, Drawn, Frontier, Moved, Page, Tile
from alphafix.report.payers import Pair, pairs
from alphafix.report.sprite import Sprite, sprite
from alphafix.report.steering import steering
from alphafix.report.tables import heading, interval_note, legend, other_figures, table_of
from alphafix.report.tradeoff import frame_of
from alphafix.shown import in_list
from alphafix.values.arrays import IntArray
from alphafix.values.classes import TIERS
from alphafix.values.display import Table

# Classes named that gain most, and as many that lose most; pairs of who pays in the text.
MOST_MOVED, MOST_PAIRS = 8, 40

# Points of the trade-off in figures.
CURVE_POINTS = 9

# Images of each neighbour beside those of a class.
NEIGHBOUR_IMAGES = 4

NO_COMPARISON = (
    "How simpler methods do on the same features is not known yet: run `alphafix compare`, then "
    "`alphafix report` again."
)

SHIPPED, FEW_BIAS = "in this run", "few-bias (the head as it was)"


@dataclass(frozen=True)
class Settings:
    """What a page is asked to hold.

    Attributes:
        run: The run directory, as the user names it.
        images: Number of test images, at most.
        room: Bytes of the whole page, at most.
    """

    run: str
    images: int
    room: int


def page_of(evidence: Evidence, settings: Settings) -> Page:
    """The page with every figure of it."""
    evaluation, comparison = evidence.found.evaluation, evidence.comparison
    frontier = _frontier(comparison)
    steered = _Steered(evidence, settings)
    drawn = [Drawn.of(picture) for picture in pictures(evidence)]
    text = sum(len(one.inline) for one in drawn)
    images = steered.images(settings.room - text)
    return Page(
        title="What the correction gains and costs",
        subtitle=heading(evaluation),
        tiles=tiles(evidence),
        verdict=verdict(evidence),
        worst=_moved(evidence, steered.known, gaining=False),
        best=_moved(evidence, steered.known, gaining=True),
        curve=steered.curve(),
        pays=_pays(evidence),
        steering={**steered.data(images), "frame": _frame(frontier)},
        methods=[str(one["name"]) for one in steered.steering.methods],
        notes=steered.notes(images),
        tables=[_accuracy(evidence), _other(evidence), *_memory_table(evidence)],
        frontier=frontier,
        classes=_classes(evidence, steered.known),
        pictures=drawn,
        provenance=evaluation.provenance,
    )


def tiles(evidence: Evidence) -> list[Tile]:
    """Rare, other and all classes: before, after, and whether that is more than noise."""
    evaluation = evidence.found.evaluation
    classes, found = evaluation.classes, _differences(evidence)
    few, many = classes.thresholds.few, classes.thresholds.many
    words = {
        "few": ("Rare classes", f"{len(classes.few)} with fewer than {few} training images"),
        "base": ("Other classes", f"{len(classes.base)} with {few} or more (many: above {many})"),
        "overall": ("Overall", f"all {counted(len(classes), 'class')}"),
    }
    return [
        _tile(*words[tier], evaluation.tier(tier).figures["top1"], found.get(tier))
        for tier in words
    ]


def _tile(title: str, note: str, figures: Any, found: Difference | None) -> Tile:
    if found is None or figures.base is None or figures.corrected is None:
        return Tile(title, note, "", "", "no samples", 0)
    sure = found.sure >= SHOWN
    low, high = found.estimate.low, found.estimate.high
    told = f"{found.estimate.value:+.1f} points [{low:+.1f}, {high:+.1f}]"
    before, after = (f"{one.value:.1f}%" for one in (figures.base, figures.corrected))
    tone = (1 if found.better else -1) if sure else 0
    return Tile(title, note, before, after, told if sure else f"{told}: within noise", tone)


def _differences(evidence: Evidence) -> dict[str, Difference]:
    both, classes = evidence.found.both, evidence.found.evaluation.classes
    after, before = (one.predicted == both.labels for one in (both.after, both.before))
    return differences(after, before, np.isin(both.labels, classes.few))


def verdict(evidence: Evidence) -> str:
    """One sentence: against other methods if there is a comparison, else against before."""
    if evidence.comparison is not None:
        return evidence.comparison.verdict[0]
    found = [one for one in _differences(evidence).values() if one.sure >= SHOWN]
    told = " and ".join(one.told for one in found)
    return f"The corrected model is {told}." if told else "No difference could be shown."


def _frontier(comparison: Comparison | None) -> Frontier:
    if comparison is None:
        return Frontier([NO_COMPARISON])
    made = table_of(comparison)
    rows = [[str(row[0]).replace(BASE, "before"), *row[1:]] for row in made.rows]
    table = replace(made, title="Methods", rows=rows, notes=[". ".join(legend(comparison)) + "."])
    return Frontier(comparison.verdict, table, Drawn.of(trade_off_picture(comparison)))


def _frame(frontier: Frontier) -> dict[str, Any] | None:
    """Where in the picture of the trade-off which accuracies are."""
    return None if frontier.picture is None else vars(frame_of(frontier.picture.picture.drawing))


def _accuracy(evidence: Evidence) -> Table:
    evaluation = evidence.found.evaluation
    made = table_of(evaluation)
    words = {"other": "other (medium and many)", "few": "few (rare)", "many": "many (frequent)"}
    rows = [[words.get(str(row[0]), row[0]), *row[1:]] for row in made.rows]
    return replace(
        made,
        title="Accuracy",
        header=_renamed(made.header),
        rows=rows,
        notes=[interval_note(evaluation)],
    )


def _other(evidence: Evidence) -> Table:
    made = other_figures(evidence.found.evaluation)
    rows = [[str(row[0]).replace(", other", ", other classes"), *row[1:]] for row in made.rows]
    return replace(made, header=_renamed(made.header), rows=rows)


def _renamed(header: Sequence[str]) -> list[str]:
    """Columns that say when, not which head."""
    words = {"base": "before", "corrected": "after"}
    return [words.get(name, name) for name in header]


def _memory_table(evidence: Evidence) -> list[Table]:
    """What the base model's memory gives to the rarest classes, if it has one."""
    if evidence.embedding is None or evidence.embedding.memory is None:
        return []
    return [infused_table(evidence.embedding.memory, evidence.found.evaluation.classes)]


def _moved(evidence: Evidence, known: IntArray, *, gaining: bool) -> list[Moved]:
    """The classes that gain, or lose, most; those that do not change are left out."""
    evaluation, both = evidence.found.evaluation, evidence.found.both
    classes, results, moved = evaluation.classes, evaluation.by_class, evaluation.by_class.change
    sign = 1 if gaining else -1
    order = np.argsort(-sign * np.nan_to_num(moved), kind="stable").tolist()
    before = top_confusions(both.before.predicted, both.labels, len(classes))
    after = top_confusions(both.after.predicted, both.labels, len(classes))

    def taken(found: list[tuple[int, int]]) -> str:
        return (
            ", ".join(f"{in_list(classes.names[other])} ({count})" for other, count in found)
            or "none"
        )

    return [
        Moved(
            int(np.searchsorted(known, i)),
            classes.names[i],
            [
                f"{TIERS[classes.tiers[i]]}, {classes.counts[i]} training samples: "
                f"{results.base_accuracy[i]:.1f}% → {results.corrected_accuracy[i]:.1f}% of "
                f"{results.samples[i]} ({moved[i]:+.1f})",
                f"before, taken for: {taken(before.get(i, []))}",
                f"after, taken for: {taken(after.get(i, []))}",
            ],
            sign,
        )
        for i in order[:MOST_MOVED]
        if sign * moved[i] > 0
    ]


def _pays(evidence: Evidence) -> Table:
    """Who pays, the dearest first."""
    classes = evidence.found.evaluation.classes
    found = pairs(evidence.found.both, classes)

    def row(one: Pair) -> list[object]:
        return [
            classes.names[one.rare],
            classes.names[one.other],
            TIERS[classes.tiers[one.other]],
            one.lost,
            one.won,
        ]

    left = len(found) - MOST_PAIRS
    notes = [f"... and {left:,} more pairs"] if left > 0 else []
    header = ["rare class that gains", "takes from", "split", "lost there", "won back"]
    return Table("Who pays", header, [row(one) for one in found[:MOST_PAIRS]], notes)


class _Steered:
    """All that the slider and the look at a class need."""

    def __init__(self, evidence: Evidence, settings: Settings) -> None:
        self.evidence, self.settings, found = evidence, settings, evidence.found
        self.classes = found.evaluation.classes
        self.labels = found.both.labels
        head, correction, few = found.head, found.correction, self.classes.few
        self.before, self.after = margins(found.store, pair_scores(head, correction), few)
        moves: dict[str, Any] | None = {} if correction.curve is not None else None
        self.shipped = Steered(SHIPPED, self.after, correction.chosen.offset, moves)
        plain = Steered(FEW_BIAS, self.before, 0.0, {"method": "few-bias"})
        methods = [self.shipped, plain, *evidence.steered]
        answers = [ids for one in methods for ids in (one.margins.few, one.margins.other)]
        near = self._ids[np.isin(self._few, self.labels)]
        self.known = known_classes(len(self.classes), self.labels, *answers, near)
        self.steering, self.packed = steering(
            self._places(self.labels),
            self._renumbered(self.before),
            [replace(one, margins=self._renumbered(one.margins)) for one in methods],
            settings.run,
        )

    def data(self, images: Sprite) -> dict[str, Any]:
        """What the page's script needs, as JSON data; a class is its place in ``known``."""
        made, classes, known = learned(self.evidence.found.correction), self.classes, self.known
        rows = np.isin(self._few, known) & np.isin(self._ids, known).all(axis=1)
        near = zip(self._places(self._few[rows]), self._places(self._ids[rows]), strict=True)
        learners = np.zeros(0, np.int64) if made is None else np.intersect1d(made.classes, known)
        return {
            "names": [classes.names[i] for i in known],
            "tiers": classes.tiers[known].tolist(),
            "counts": classes.counts[known].tolist(),
            "arrays": list(self.steering.arrays),
            "methods": list(self.steering.methods),
            **self.packed,
            "sprite": {**vars(images), "samples": list(images.samples)},
            "neighbours": {int(few): ids.tolist() for few, ids in near},
            "learned": {
                int(place): made.text(int(i), classes)
                for i, place in zip(learners, self._places(learners), strict=True)
                if made is not None
            },
        }

    def _places(self, ids: IntArray) -> IntArray:
        """The page's numbers of classes."""
        return np.searchsorted(self.known, ids)

    def _renumbered(self, found: Margins) -> Margins:
        return Margins(found.gap, self._places(found.few), self._places(found.other))

    @property
    def _few(self) -> IntArray:
        return self.evidence.neighbours.few

    @property
    def _ids(self) -> IntArray:
        return self.evidence.neighbours.ids

    def curve(self) -> Table:
        """Accuracy at some offsets, as the slider shows it."""
        # Steps in which about as many rare samples change each time.
        turned = (self.after.few == self.labels) & np.isin(self.labels, self.classes.few)
        gap = self.after.gap[turned].astype(np.float64) if turned.any() else np.zeros(1)
        steps = np.quantile(gap, np.linspace(0.6, 0.97, CURVE_POINTS))
        middle, wanted = self.shipped.offset, np.unique(np.round(np.r_[steps, 0.0], 2))
        rows: list[list[object]] = []
        for shift in wanted.tolist():
            right = self.after.predicted(shift) == self.labels
            found = tier_accuracy(right, self.labels, self.classes)
            mark = " (as in this run)" if shift == 0 else ""
            rows.append(
                [f"t = {middle + shift:+.2f}{mark}", *(number(found[name]) for name in COLUMNS)]
            )
        return Table(
            "The same in figures, for the correction in this run", ["shift", *COLUMNS], rows
        )

    def images(self, room: int) -> Sprite:
        """The images that there is room for: of samples that change, then that are wrong."""
        evidence, both = self.evidence, self.evidence.found.both
        right = [one.predicted == self.labels for one in (both.before, both.after)]
        may = self.after.few == self.labels
        rank = np.where(right[0] != right[1], 0, np.where(~right[1], 1, np.where(may, 2, 4)))
        order = np.argsort(self.labels, kind="stable")
        place = np.empty(len(order), dtype=np.int64)
        sizes = np.bincount(self.labels, minlength=len(self.classes))
        starts = np.cumsum(sizes) - sizes
        place[order] = np.arange(len(order)) - starts[self.labels[order]]
        near = np.zeros(len(self.classes), dtype=np.bool_)
        near[self._ids.ravel()] = True
        rank = np.where(near[self.labels] & (place < NEIGHBOUR_IMAGES), np.minimum(rank, 3), rank)
        arrays = sum(len(one["data"]) for one in self.steering.arrays)
        return sprite(
            evidence.found.store,
            self.classes,
            np.lexsort((place, rank)),
            most=self.settings.images,
            room=max(room - arrays, 0),
        )

    def notes(self, images: Sprite) -> dict[str, str]:
        """What was left out."""
        left = self.steering.left_out
        told = f"Left out, so that the page stays small: {', '.join(left)}." if left else ""
        return {"methods": told, "images": images.note}


def _classes(evidence: Evidence, known: IntArray) -> Classes:
    """One row a class."""
    evaluation, both = evidence.found.evaluation, evidence.found.both
    classes, results = evaluation.classes, evaluation.by_class
    rows = listed_classes(results.samples, results.change)
    after = top_confusions(both.after.predicted, both.labels, len(classes), most=1)
    taken = [classes.names[after[i][0][0]] if i in after else "" for i in rows.tolist()]
    columns = {
        "class": ("text", [classes.names[i] for i in rows]),
        "split": ("word", [TIERS[tier] for tier in classes.tiers[rows]]),
        "training": ("number", classes.counts[rows].tolist()),
        "samples": ("number", results.samples[rows].tolist()),
        "before %": ("percent", _numbers(results.base_accuracy[rows])),
        "after %": ("percent", _numbers(results.corrected_accuracy[rows])),
        "change": ("change", _numbers(results.change[rows])),
        "from": ("change", _numbers(results.low[rows])),
        "to": ("change", _numbers(results.high[rows])),
        "most often taken for": ("text", taken),
    }
    kinds, cells = zip(*columns.values(), strict=True)
    note = (
        f"{len(rows):,} of {len(classes):,} classes: those with samples, of these what changed "
        "most. report.json has all."
    )
    return Classes(
        list(columns),
        kinds,
        cells,
        np.searchsorted(known, rows).tolist(),
        sort=6,
        note=note if len(rows) < len(classes) else "",
    )


def _numbers(values: Any) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), 4) for value in values]
