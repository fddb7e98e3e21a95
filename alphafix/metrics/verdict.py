"""What a comparison says: figures of all methods in common draws, and a verdict in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from alphafix.metrics.accuracy import COLUMNS
from alphafix.metrics.bootstrap import Resampling, interval
from alphafix.metrics.comparison import Method, Row
from alphafix.metrics.estimates import Estimate
from alphafix.metrics.figures import tier_name
from alphafix.metrics.limits import Limits
from alphafix.metrics.many import accuracies, bootstrap_accuracies
from alphafix.metrics.paired import PLACES, PROBABLY, SHOWN, Difference, differences
from alphafix.values.arrays import BoolArray, FloatArray64, IntArray
from alphafix.values.classes import ClassTable

FEW, OVERALL = COLUMNS.index("few"), COLUMNS.index("overall")

# Share of bootstrap draws from which a method is surely dominated by another.
SURE = 0.95

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
        self.correct, self.few = correct, np.isin(labels, classes.few)
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

    def differences(self, first: int, second: int) -> dict[str, Difference]:
        """Paired differences of two methods by tier, first minus second."""
        return differences(self.correct[:, first], self.correct[:, second], self.few)

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


def spoken_of(rows: Sequence[Row], roles: Mapping[str, str]) -> frozenset[str]:
    """Names of the methods that sentences of `verdict` name.

    Args:
        rows: The rows of the comparison.
        roles: Which rows were chosen, and for what (see `Comparison.roles`).
    """
    place = {row.method.name: i for i, row in enumerate(rows)}
    chosen = {role: place[name] for role, name in roles.items() if name in place}
    ours, rival, _ = _opponents(rows, chosen)
    spoken = (ours, rival, chosen.get("shipped"), chosen.get("best"))
    return frozenset(rows[one].method.name for one in spoken if one is not None)


def _opponents(
    rows: Sequence[Row], chosen: Mapping[str, int]
) -> tuple[int | None, int | None, str]:
    """The correction that ships, or else AlphaNet; what it is held against; the kind of that."""
    shipped, simple, alphanet = (chosen.get(role) for role in ("shipped", "simple", "alphanet"))
    if shipped is None:
        return alphanet, simple, "simple method"
    if str(rows[shipped].method.settings.get("method")).startswith("alphanet"):
        return shipped, simple, "simple method"
    return shipped, alphanet, "setting of AlphaNet"


def _decision(common: CommonDraws, rows: Sequence[Row], chosen: Mapping[str, int]) -> str:
    """The correction that ships, or else AlphaNet, against the other kind of method."""
    ours, rival, kind = _opponents(rows, chosen)
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
    """Two methods that were chosen without these samples, in words that follow certainty.

    Each of few, base and overall is held to its own, which is a certainty of all three together
    (see `alphafix.metrics.paired`): in at most one of twenty data sets on which both methods are
    equally good is anything at all said to be shown.
    """
    found = common.differences(first, second)
    known = [tier for tier in ("few", "overall", "base") if tier in found]
    # The better one is named first: for rare classes if that is known, else where it is.
    leading = next((found[tier] for tier in known if found[tier].sure >= PROBABLY), None)
    if leading is not None and not leading.better:
        first, second = second, first
        found = common.differences(first, second)
    one, other = _first_named(rows[first]), _named(rows[second])
    gap = _gap(found)
    many = f"with this many {common.on} samples ({common.samples:,})"
    if leading is None:
        return (
            f"No difference could be shown {many} between {_named(rows[first])} and {other}: {gap}."
        )
    told, questions = _told(found)
    mine = [found[tier] for tier in ("few", "overall") if tier in found]
    if all(each.wins or each.not_worse >= SHOWN for each in mine) and any(e.wins for e in mine):
        return f"{one} wins against {other}: {' and '.join(told)}; {gap}."
    claims = [each for each in mine if each.sure >= PROBABLY]
    if len({each.better for each in claims}) == 2:
        sure = "" if min(each.sure for each in claims) >= SHOWN else "probably "
        return (
            f"It is {sure}a trade: {_named(rows[first])} is {' and '.join(told)} than {other}: "
            f"{gap}."
        )
    open_ = f"; {' and '.join(questions)} could not be shown {many}" if questions else ""
    return f"{one} is {' and '.join(told)} than {other}{open_}: {gap}."


def _told(found: Mapping[str, Difference]) -> tuple[list[str], list[str]]:
    """What is known of the better method, and what is not, each tier in words."""
    claims = {tier: one for tier, one in found.items() if one.sure >= PROBABLY}
    told = [claims[tier].told for tier in ("few", "overall") if tier in claims]
    questions = []
    for tier in ("few", "overall"):
        if tier in claims or tier not in found:
            continue
        if told and found[tier].not_worse >= PROBABLY:
            told.append(found[tier].told_not_worse)
        elif tier == "overall" and "few" in claims:
            questions.append("whether it costs overall accuracy")
        else:
            questions.append(f"which of them is better {PLACES[tier]}")
    if "base" in claims and questions:
        told.append(claims["base"].told)
    return told, questions


def _first_named(row: Row) -> str:
    """A method with which a sentence begins."""
    named = _named(row)
    if row.method.family in ("shipped", "choice"):
        return f"{named[:1].upper()}{named[1:]}"
    alphanet = row.method.family in ("alphanet", "calibrated")
    return f"{'AlphaNet' if alphanet else 'A simpler method'}: {named}"


def _shipped(row: Row) -> str:
    """The correction in the run directory, and whether these samples keep the limit it has."""
    told = _first_named(row)
    limits = row.method.settings.get("limits")
    if limits is None:
        return f"{told}, which was made without a limit."
    own = Limits(**limits)
    if not row.method.settings.get("promised", True):
        return (
            f"{told}, moved beyond the limit that it was made for ({own.describe()}), so that it "
            "promises nothing of fresh samples."
        )
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
        if rho is not None and row.method.name == f"alphanet rho {rho:g}" and other is not None:
            parts.append(f"rho {rho:g}: {_gap(common.differences(i, other))}")
    if not parts:
        return []
    return ["Nearest against random neighbours: " + "; ".join(parts) + "."]


def _both(row: Row) -> str:
    changes = [row.changes[name] for name in ("few", "overall")]
    few, overall = (f"{change.value:+.1f}" if change else "n/a" for change in changes)
    return f"few {few}, overall {overall}"


def _gap(found: Mapping[str, Difference]) -> str:
    """Differences with their intervals, which hold for all tiers together."""
    return ", ".join(
        f"{tier_name(tier)} {one.value:+.1f} [{one.low:+.1f}, {one.high:+.1f}]"
        for tier, one in ((tier, each.estimate) for tier, each in found.items())
    )
