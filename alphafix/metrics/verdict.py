"""What a comparison says: figures of all methods in common draws, and a verdict in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from alphafix.metrics.accuracy import COLUMNS
from alphafix.metrics.bootstrap import Resampling, interval
from alphafix.metrics.comparison import Method, Row
from alphafix.metrics.estimates import Estimate
from alphafix.metrics.many import accuracies, bootstrap_accuracies
from alphafix.values.arrays import BoolArray, FloatArray64, IntArray
from alphafix.values.classes import ClassTable

FEW, OVERALL = COLUMNS.index("few"), COLUMNS.index("overall")

# Share of bootstrap draws from which a statement is called sure.
SURE = 0.95


class CommonDraws:
    """All methods on the same samples, with common bootstrap draws.

    Args:
        classes: The class table.
        labels: True classes, int64 of shape N.
        methods: M methods, the base head first.
        correct: Which method is right on which sample, bool of shape N x M.
        resampling: The bootstrap draws.
    """

    def __init__(
        self,
        classes: ClassTable,
        labels: IntArray,
        methods: Sequence[Method],
        correct: BoolArray,
        resampling: Resampling,
    ) -> None:
        self.methods = tuple(methods)
        self.point = accuracies(classes, labels, correct)
        self.drawn = bootstrap_accuracies(classes, labels, correct, resampling)

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
        """Paired difference of two methods in one tier, first minus second."""
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
            name: Estimate.of(*one) for name, *one in zip(COLUMNS, point, low, high, strict=True)
        }


def verdict(common: CommonDraws, rows: Sequence[Row]) -> tuple[str, ...]:
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
        better = _dominating(common, rows, alphanet)
        sentences.append(_against(common, rows, alphanet, simple if better is None else better))
    elif simple is not None:
        sentences.append(
            "AlphaNet keeps the allowed overall drop on validation with no rho that was tried; "
            f"{rows[simple].method.name} does: {_both(rows[simple])}."
        )
    sentences += _control(common, rows)
    return tuple(sentences)


def _chosen(rows: Sequence[Row], families: set[str]) -> int | None:
    """Of some families, the method with the greatest few-split validation accuracy allowed."""
    allowed = [i for i, row in enumerate(rows) if row.method.family in families and row.within]
    return max(allowed, key=lambda i: rows[i].method.val["few"] or 0.0, default=None)


def _dominating(common: CommonDraws, rows: Sequence[Row], place: int) -> int | None:
    """The simple method that most surely dominates the one at ``place``, if any does."""
    found = [
        i
        for i, row in enumerate(rows)
        if row.method.family == "simple" and row.method.name in rows[place].dominated_by
    ]
    return max(found, key=lambda i: common.chance(i, place), default=None)


def _against(common: CommonDraws, rows: Sequence[Row], alphanet: int, simple: int) -> str:
    few, overall = (common.difference(simple, alphanet, column) for column in (FEW, OVERALL))
    names = f"{rows[simple].method.name} ({_both(rows[simple])})"
    other = f"{rows[alphanet].method.name} ({_both(rows[alphanet])})"
    gap = f"few {_signed(few)}, overall {_signed(overall)}"
    if few.value >= 0 and overall.value >= 0:
        sure = common.chance(simple, alphanet)
        return (
            f"A simpler method wins: {names} is at least as good as {other} on both sides; "
            f"{gap}; so in {sure:.0%} of the bootstrap draws."
        )
    if few.value <= 0 and overall.value <= 0:
        return f"AlphaNet wins: {other} is at least as good as the simple {names}; {gap}."
    return f"A trade: {names} against {other}: {gap}."


def _control(common: CommonDraws, rows: Sequence[Row]) -> list[str]:
    """AlphaNet against random neighbours at each rho, as one sentence."""
    place = {row.method.name: i for i, row in enumerate(rows)}
    parts = []
    for i, row in enumerate(rows):
        rho = row.method.settings.get("rho")
        other = place.get(f"alphanet random rho {rho:g}") if rho is not None else None
        if row.method.family == "alphanet" and other is not None:
            few, overall = (common.difference(i, other, column) for column in (FEW, OVERALL))
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
