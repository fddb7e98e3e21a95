"""The comparison of many methods on the same samples, and its verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alphafix.errors import FileFormatError
from alphafix.files import read_json, write_json
from alphafix.metrics.bootstrap import interval
from alphafix.metrics.evaluation import Estimate
from alphafix.metrics.many import COLUMNS, accuracies, bootstrap_accuracies
from alphafix.report.html import table_html
from alphafix.values.arrays import BoolArray, FloatArray64, IntArray
from alphafix.values.classes import ClassTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure


FEW, OVERALL = COLUMNS.index("few"), COLUMNS.index("overall")

BASE = "base head"

# Share of bootstrap draws from which a statement is called sure.
SURE = 0.95


@dataclass(frozen=True)
class Method:
    """One classifier of a comparison, before it is measured.

    Attributes:
        name: Its name.
        family: "base", "simple" (closed forms and scalars), "trained", "alphanet", "random"
            (AlphaNet's control), "calibrated" or "on top".
        linear: Whether it is a linear head that can be patched.
        settings: The hyper-parameters that validation chose.
        val: Accuracy by split on validation.
        seeds: By split: "values" of the single seeds, their "mean" and "std"; or None.
        seconds: Time that fitting took.
    """

    name: str
    family: str
    linear: bool
    settings: Mapping[str, Any]
    val: Mapping[str, float | None]
    seeds: Mapping[str, Any] | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Row:
    """One measured classifier; all figures in percent, changes in points against the base head.

    Attributes:
        method: What was measured.
        figures: Top-1 by split, None for an empty split.
        changes: Its paired difference to the base head by split.
        within: Whether it keeps the allowed overall drop on validation.
        dominated_by: Methods at least as good both on few-split classes and overall, and
            better in one of them.
        surely_dominated_by: Those of them for which this holds in 95% of the draws.
    """

    method: Method
    figures: Mapping[str, Estimate | None]
    changes: Mapping[str, Estimate | None]
    within: bool
    dominated_by: tuple[str, ...] = ()
    surely_dominated_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Many methods on the same samples.

    Attributes:
        classes: The class table.
        on: Which samples.
        samples: N.
        max_overall_drop: Points of overall validation accuracy that a method could spend.
        rows: The methods, the base head first.
        verdict: What follows, in sentences.
        settings: Draws and seed of the bootstrap.
        curves: Few and overall accuracy along the few-bias of the base head, for the picture.
        by_k: Figures of AlphaNet's single trials by K, in the form of `Method.seeds`.
        provenance: How it was made.
    """

    classes: ClassTable
    on: str
    samples: int
    max_overall_drop: float
    rows: tuple[Row, ...]
    verdict: tuple[str, ...]
    settings: Mapping[str, Any]
    curves: Mapping[str, Mapping[str, list[float]]] = field(default_factory=dict)
    by_k: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def row(self, name: str) -> Row:
        """The row of a method."""
        return next(row for row in self.rows if row.method.name == name)

    def _repr_html_(self) -> str:
        from alphafix.report.comparison_text import HEADER, legend, table_row

        title = f"{len(self.rows)} methods on {self.on}, {self.samples:,} samples"
        rows = [table_row(row) for row in self.rows]
        notes = (self.classes.describe(), *legend(self), *self.verdict)
        return table_html(title, HEADER, rows, *notes, most=len(rows))

    def figure(self) -> Figure:
        """Few-split against overall accuracy of every method, as a Matplotlib figure."""
        from alphafix.report.tradeoff import draw_trade_off  # drawing is above the figures

        drawn: Figure = draw_trade_off(self)
        return drawn

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data, the format of compare.json."""
        return {
            "value": "comparison",
            "on": self.on,
            "samples": self.samples,
            "unit": "percent",
            "max_overall_drop": self.max_overall_drop,
            "settings": dict(self.settings),
            "verdict": list(self.verdict),
            "rows": [asdict(row) for row in self.rows],
            "curves": dict(self.curves),
            "by_k": dict(self.by_k),
            **self.classes.to_dict(),
            "provenance": dict(self.provenance),
        }

    def save(self, path: Path, *, overwrite: bool = False) -> None:
        """Write compare.json."""
        write_json(path, self.to_dict(), overwrite=overwrite)

    @classmethod
    def load(cls, path: Path) -> Comparison:
        """Read what `save` wrote.

        Raises:
            FileFormatError: If it is not a comparison.
        """
        data = read_json(path)
        try:
            return cls(
                classes=ClassTable.from_dict(data),
                on=data["on"],
                samples=data["samples"],
                max_overall_drop=data["max_overall_drop"],
                rows=tuple(_read_row(entry) for entry in data["rows"]),
                verdict=tuple(data["verdict"]),
                settings=data["settings"],
                curves=data["curves"],
                by_k=data["by_k"],
                provenance=data["provenance"],
            )
        except (KeyError, TypeError) as error:
            raise FileFormatError(
                f"{path} is not a comparison", got=repr(error), todo="run `alphafix compare` again"
            ) from error


def _read_row(data: dict[str, Any]) -> Row:
    def estimates(entry: dict[str, Any]) -> dict[str, Estimate | None]:
        return {name: None if one is None else Estimate(**one) for name, one in entry.items()}

    return Row(
        method=Method(**data["method"]),
        figures=estimates(data["figures"]),
        changes=estimates(data["changes"]),
        within=data["within"],
        dominated_by=tuple(data["dominated_by"]),
        surely_dominated_by=tuple(data["surely_dominated_by"]),
    )


class Measured:
    """All methods on the same samples, with common bootstrap draws.

    Args:
        classes: The class table.
        labels: True classes, int64 of shape N.
        methods: M methods, the base head first.
        correct: Which method is right on which sample, bool of shape N x M.
        draws: Bootstrap draws.
        seed: Their seed.
    """

    def __init__(
        self,
        classes: ClassTable,
        labels: IntArray,
        methods: Sequence[Method],
        correct: BoolArray,
        *,
        draws: int,
        seed: int,
    ) -> None:
        self.methods = tuple(methods)
        self.point = accuracies(classes, labels, correct)
        self.drawn = bootstrap_accuracies(classes, labels, correct, draws=draws, seed=seed)

    def rows(self, max_overall_drop: float) -> tuple[Row, ...]:
        """Every method's figures and what dominates it."""
        base = self.methods[0].val["overall"] or 0.0
        found = []
        for place, method in enumerate(self.methods):
            drop = base - (method.val["overall"] or 0.0)
            over = [other for other in range(len(self.methods)) if self._dominates(other, place)]
            found.append(
                Row(
                    method,
                    self._estimates(self.point[place], self.drawn[:, place]),
                    self._estimates(
                        self.point[place] - self.point[0], self.drawn[:, place] - self.drawn[:, 0]
                    ),
                    within=drop <= max_overall_drop + 1e-9,
                    dominated_by=tuple(self.methods[i].name for i in over),
                    surely_dominated_by=tuple(
                        self.methods[i].name for i in over if self.chance(i, place) >= SURE
                    ),
                )
            )
        return tuple(found)

    def difference(self, first: int, second: int, column: int) -> Estimate:
        """Paired difference of two methods in one split, first minus second."""
        values = self.drawn[:, first, column] - self.drawn[:, second, column]
        low, high = interval(values[:, None])
        point = self.point[first, column] - self.point[second, column]
        return Estimate(float(point), float(low[0]), float(high[0]))

    def chance(self, first: int, second: int) -> float:
        """Share of draws in which the first method dominates the second."""
        ahead = self.drawn[:, first] - self.drawn[:, second]
        few, overall = ahead[:, FEW], ahead[:, OVERALL]
        return float(((few >= 0) & (overall >= 0) & (few + overall > 0)).mean())

    def _dominates(self, first: int, second: int) -> bool:
        ahead = self.point[first] - self.point[second]
        few, overall = ahead[FEW], ahead[OVERALL]
        return bool(few >= 0 and overall >= 0 and few + overall > 0)

    def _estimates(self, point: FloatArray64, drawn: FloatArray64) -> dict[str, Estimate | None]:
        low, high = interval(drawn)
        return {
            name: None
            if np.isnan(point[i])
            else Estimate(float(point[i]), float(low[i]), float(high[i]))
            for i, name in enumerate(COLUMNS)
        }


def verdict(measured: Measured, rows: Sequence[Row]) -> tuple[str, ...]:
    """What the comparison says, in plain sentences; figures are those of the samples compared.

    Methods are chosen by validation alone: the greatest few-split accuracy within the allowed
    overall drop. What they then reach is measured on the samples of the comparison.
    """
    sentences = []
    alphanet = _chosen(rows, {"alphanet", "calibrated"})
    simple = _chosen(rows, {"simple"})
    best = _chosen(rows, {row.method.family for row in rows} - {"base", "random"})
    if best is not None:
        sentences.append(f"Validation would choose {rows[best].method.name}: {_both(rows[best])}.")
    else:
        sentences.append("No method keeps the allowed overall drop on validation.")
    if alphanet is not None and simple is not None:
        better = _dominating(measured, rows, alphanet)
        sentences.append(_against(measured, rows, alphanet, simple if better is None else better))
    elif simple is not None:
        sentences.append(
            "AlphaNet keeps the allowed overall drop on validation with no rho that was tried; "
            f"{rows[simple].method.name} does: {_both(rows[simple])}."
        )
    sentences += _control(measured, rows)
    return tuple(sentences)


def _chosen(rows: Sequence[Row], families: set[str]) -> int | None:
    """Of some families, the method with the greatest few-split validation accuracy allowed."""
    allowed = [i for i, row in enumerate(rows) if row.method.family in families and row.within]
    return max(allowed, key=lambda i: rows[i].method.val["few"] or 0.0, default=None)


def _dominating(measured: Measured, rows: Sequence[Row], place: int) -> int | None:
    """The simple method that most surely dominates the one at ``place``, if any does."""
    found = [
        i
        for i, row in enumerate(rows)
        if row.method.family == "simple" and row.method.name in rows[place].dominated_by
    ]
    return max(found, key=lambda i: measured.chance(i, place), default=None)


def _against(measured: Measured, rows: Sequence[Row], alphanet: int, simple: int) -> str:
    few, overall = (measured.difference(simple, alphanet, column) for column in (FEW, OVERALL))
    names = f"{rows[simple].method.name} ({_both(rows[simple])})"
    other = f"{rows[alphanet].method.name} ({_both(rows[alphanet])})"
    gap = f"few {_signed(few)}, overall {_signed(overall)}"
    if few.value >= 0 and overall.value >= 0:
        sure = measured.chance(simple, alphanet)
        return (
            f"A simpler method wins: {names} is at least as good as {other} on both sides; "
            f"{gap}; so in {sure:.0%} of the bootstrap draws."
        )
    if few.value <= 0 and overall.value <= 0:
        return f"AlphaNet wins: {other} is at least as good as the simple {names}; {gap}."
    return f"A trade: {names} against {other}: {gap}."


def _control(measured: Measured, rows: Sequence[Row]) -> list[str]:
    """AlphaNet against random neighbours at each rho, as one sentence."""
    place = {row.method.name: i for i, row in enumerate(rows)}
    parts = []
    for i, row in enumerate(rows):
        rho = row.method.settings.get("rho")
        other = place.get(f"alphanet random rho {rho:g}") if rho is not None else None
        if row.method.family == "alphanet" and other is not None:
            few, overall = (measured.difference(i, other, column) for column in (FEW, OVERALL))
            parts.append(f"rho {rho:g}: few {_signed(few)}, overall {_signed(overall)}")
    if not parts:
        return []
    return ["Nearest against random neighbours: " + "; ".join(parts) + "."]


def _both(row: Row) -> str:
    changes = [row.changes[name] for name in ("few", "overall")]
    few, overall = (f"{change.value:+.1f}" if change else "n/a" for change in changes)
    return f"few {few}, overall {overall}"


def _signed(estimate: Estimate) -> str:
    return f"{estimate.value:+.1f} [{estimate.low:+.1f}, {estimate.high:+.1f}]"
