"""What a comparison says: figures of all methods in common draws, and a verdict in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from alphafix.metrics.accuracy import COLUMNS
from alphafix.metrics.bootstrap import Resampling, interval
from alphafix.metrics.comparison import Method, Row
from alphafix.metrics.estimates import Estimate
from alphafix.metrics.limits import Limits
from alphafix.metrics.many import accuracies, bootstrap_accuracies
from alphafix.values.arrays import BoolArray, FloatArray64, IntArray
from alphafix.values.classes import ClassTable

FEW, OVERALL = COLUMNS.index("few"), COLUMNS.index("overall")

# Share of bootstrap draws from which a statement is called sure.
SURE = 0.95

# The same where either of two methods may be the better one, which takes both tails: 95% sure
# that a method wins, and 80% that it probably does.
WINS, PROBABLY = 0.975, 0.9

# Families whose methods stand in the table under another name too.
BESIDE = ("choice", "shipped")


class CommonDraws:
    """All methods on the same samples, with common bootstrap draws.

    Args:
        classes: The class table.
        labels: True classes, int64 of shape N.
        methods: M methods, the base head first.
        correct: Which method is right on which sample, bool of shape N x M.
        resampling: The bootstrap draws.
        on: What the samples are called.
    """

    def __init__(
        self,
        classes: ClassTable,
        labels: IntArray,
        methods: Sequence[Method],
        correct: BoolArray,
        resampling: Resampling,
        on: str = "test",
    ) -> None:
        self.methods, self.samples, self.on = tuple(methods), len(labels), on
        self.point = accuracies(classes, labels, correct)
        self.drawn = bootstrap_accuracies(classes, labels, correct, resampling)

    def rows(self) -> tuple[Row, ...]:
        """Every method's figures and what dominates it."""
        found = []
        rivals = [i for i, one in enumerate(self.methods) if one.family not in BESIDE]
        for place, method in enumerate(self.methods):
            over = [other for other in rivals if self._dominates(other, place)]
            found.append(
                Row(
                    method,
                    self._estimates(self.point[place], self.drawn[:, place]),
                    self._estimates(
                        self.point[place] - self.point[0], self.drawn[:, place] - self.drawn[:, 0]
                    ),
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

    def trade(self, first: int, second: int) -> float:
        """Share of draws in which the first is better for few-split classes and worse overall."""
        ahead = self.drawn[:, first] - self.drawn[:, second]
        return float(((ahead[:, FEW] > 0) & (ahead[:, OVERALL] < 0)).mean())

    def _dominates(self, first: int, second: int) -> bool:
        ahead = self.point[first] - self.point[second]
        few, overall = ahead[FEW], ahead[OVERALL]
        return bool(few >= 0 and overall >= 0 and few + overall > 0)

    def _estimates(self, point: FloatArray64, drawn: FloatArray64) -> dict[str, Estimate | None]:
        low, high = interval(drawn)
        return {
            name: Estimate.of(*one) for name, *one in zip(COLUMNS, point, low, high, strict=True)
        }


def verdict(
    common: CommonDraws, rows: Sequence[Row], roles: Mapping[str, str], limits: Limits
) -> tuple[str, ...]:
    """What the comparison says, in plain sentences; the first is for a person who decides.

    Methods and settings are chosen by validation alone (``roles``); what they then reach is
    measured on the samples of the comparison, which no choice has seen.

    Args:
        common: The methods on these samples.
        rows: Their rows.
        roles: Which rows were chosen, and for what (see `Comparison.roles`).
        limits: What a method could cost.
    """
    place = {row.method.name: i for i, row in enumerate(rows)}
    chosen = {role: place[name] for role, name in roles.items()}
    sentences = [_decision(common, rows, chosen)]
    if "shipped" in chosen:
        sentences.append(_shipped(rows[chosen["shipped"]]))
    sentences.append(_chosen(rows, chosen.get("best"), limits))
    return (*sentences, *_control(common, rows))


def _decision(common: CommonDraws, rows: Sequence[Row], chosen: Mapping[str, int]) -> str:
    """The correction that ships, or else AlphaNet, against the other kind of method."""
    shipped, simple, alphanet = (chosen.get(role) for role in ("shipped", "simple", "alphanet"))
    ours, rival, kind = alphanet, simple, "simple method"
    if shipped is not None:
        ours = shipped
        if not str(rows[shipped].method.settings["method"]).startswith("alphanet"):
            rival, kind = alphanet, "setting of AlphaNet"
    if ours is None:
        if rival is None:
            return "Neither AlphaNet nor a simple method gains anything within the limits."
        return (
            f"No setting of AlphaNet gains anything within the limits; {_named(rows[rival])} does."
        )
    if rival is None:
        return f"No {kind} gains anything within the limits; {_named(rows[ours])} is measured."
    return compared(common, rows, ours, rival)


def compared(common: CommonDraws, rows: Sequence[Row], first: int, second: int) -> str:
    """Two methods that were chosen without these samples, in words that follow certainty."""
    if common.chance(second, first) > common.chance(first, second):
        first, second = second, first
    one, other = _named(rows[first]), _named(rows[second])
    few, overall = (common.difference(first, second, column) for column in (FEW, OVERALL))
    gap = f"few {_signed(few)}, overall {_signed(overall)}"
    sure = common.chance(first, second)
    if sure >= PROBABLY:
        word = "wins against" if sure >= WINS else "is probably better than"
        return (
            f"{_kind(rows[first])}{one} {word} {other}: at least as good for rare classes and "
            f"overall in {sure:.0%} of the bootstrap draws; {gap}."
        )
    trade = max(common.trade(first, second), common.trade(second, first))
    if trade >= PROBABLY:
        word = "" if trade >= WINS else "probably "
        return f"It is {word}a trade: {one} against {other}: {gap}."
    return (
        f"No difference could be shown with this many {common.on} samples "
        f"({common.samples:,}) between {one} and {other}: {gap}."
    )


def _kind(row: Row) -> str:
    if row.method.family in ("shipped", "choice"):
        return ""
    return "AlphaNet: " if row.method.family in ("alphanet", "calibrated") else "A simpler method: "


def _shipped(row: Row) -> str:
    """The correction in the run directory, and whether these samples keep the limit it has."""
    told = f"{_named(row)[:1].upper()}{_named(row)[1:]}"
    limits = row.method.settings.get("limits")
    if limits is None:
        return f"{told}, which was made without a limit."
    own = Limits(**limits)
    return f"{told}, made for {own.describe()}{_held(row, own)}."


def _chosen(rows: Sequence[Row], best: int | None, limits: Limits) -> str:
    """What validation chooses among all methods, and whether these samples keep the limit."""
    asked = limits.describe()
    if best is None:
        return f"Validation chooses the base model: nothing gains anything with {asked}."
    told = f"With {asked}, validation chooses {_named(rows[best])}"
    return f"{told}{_held(rows[best], limits)}."


def _held(row: Row, limits: Limits) -> str:
    """Whether the limit on overall accuracy holds on these samples, in words."""
    change, most = row.changes["overall"], limits.max_overall_drop
    if change is None or most is None:
        return ""
    if -change.value <= most + 1e-9:
        return ": within the limit here"
    why = (
        f"to be expected of {1 - limits.confidence:.0%} of fresh samples at the most"
        if limits.promises
        else "it was held on validation, and nothing is promised of other samples"
    )
    return f": on these samples {-change.value:.1f} points are lost, more than the limit ({why})"


def _named(row: Row) -> str:
    return f"{row.method.name} ({_both(row)})"


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
