"""Rules by which validation chooses among candidates, and the choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from alphafix.metrics.accuracy import Accuracy, harmonic_mean, harmonic_means, tier_accuracy
from alphafix.metrics.limits import Limits, Samples, drop_of, worth_of
from alphafix.metrics.trade_off import Path, trade_off
from alphafix.values.arrays import FloatArray64
from alphafix.values.classes import TIERS, ClassTable
from alphafix.values.curve import Curve


@dataclass(frozen=True)
class Rule:
    """What is to be greatest on validation.

    Attributes:
        name: "overall", "few", "harmonic", "balanced" or "constrained".
        base: Validation accuracy of the base model.
        limits: For "constrained": what may be lost, and how surely.
    """

    name: str
    base: Accuracy
    limits: Limits = field(default_factory=Limits)

    def goodness(self, accuracy: Accuracy) -> float:
        """The figure to be greatest."""
        if self.name == "overall":
            return accuracy["overall"] or 0.0
        if self.name == "harmonic":
            return harmonic_mean(accuracy)
        if self.name == "balanced":
            return float(
                np.mean([value for name in TIERS if (value := accuracy[name]) is not None])
            )
        return accuracy["few"] or 0.0

    def goodness_along(self, accuracy: Mapping[str, FloatArray64]) -> FloatArray64:
        """The same for many accuracies at once.

        Args:
            accuracy: Percent for "few", "medium", "many" and "overall" of n candidates, each of
                shape n; NaN throughout for a tier without samples.
        """
        if self.name == "overall":
            return accuracy["overall"]
        tiers = np.stack([accuracy[name] for name in TIERS])
        if self.name == "harmonic":
            return harmonic_means(tiers)
        if self.name == "balanced":
            known = tiers[~np.isnan(tiers).any(axis=1)]
            return np.asarray(known.mean(axis=0))
        return accuracy["few"]

    def describe(self) -> str:
        """What the rule asks for, in words."""
        return {
            "overall": "greatest overall accuracy on validation",
            "few": "greatest few-split accuracy on validation",
            "harmonic": "greatest harmonic mean of the splits' accuracies on validation",
            "balanced": "greatest mean of the splits' accuracies on validation",
            "constrained": "greatest few-split accuracy on validation with "
            + self.limits.describe(),
        }[self.name]

    def beats(self, accuracy: Accuracy) -> bool:
        """Whether a correction is better than the base model on the data it was chosen on.

        It is by the figure to be greatest; and, as few-split accuracy is what corrections are
        for and is paid for by the other classes, by few-split accuracy too where overall
        accuracy alone was to be greatest among the corrections.
        """
        figures = [self.goodness]
        if self.name == "overall":
            figures.append(replace(self, name="few").goodness)
        return any(figure(accuracy) > figure(self.base) + 1e-9 for figure in figures)


@dataclass(frozen=True)
class Candidate:
    """A path and an offset that could be chosen.

    Attributes:
        place: Which path.
        offset: The offset on its few-split scores.
        few_gain: Points that the few split gains on validation.
        overall_drop: Points that all classes together lose.
        slack: Standard errors between it and its nearest limit; infinite without a limit.
        worth: Points that its path gains with about as much slack as is asked for (see
            `alphafix.metrics.limits.worth_of`).
    """

    place: int
    offset: float
    few_gain: float
    overall_drop: float
    slack: float = float("inf")
    worth: float = 0.0

    @property
    def key(self) -> tuple[float, float, float, float]:
        """What is greater of the better one: worth, few-split gain, slack, then a small offset."""
        return (round(self.worth, 9), round(self.few_gain, 9), self.slack, -abs(self.offset))


@dataclass(frozen=True)
class Promise:
    """What a choice within limits says of fresh samples.

    Attributes:
        limits: The limits.
        margin: Standard errors of slack that keeping them takes, selection included; None where
            none that was tried is enough.
        few_gain: Points that the few split gains on validation by the choice; 0 for the base
            model.
        overall_drop: Points that all classes together lose there.
        given_up: Points of few-split gain on validation that keeping the limits there alone,
            without confidence, would have given more.
        samples_a_class: Validation samples a class that it would take, about, to promise half of
            the gain that validation alone shows; None where it is promised already, or nothing
            on validation tells.
    """

    limits: Limits
    margin: float | None
    few_gain: float
    overall_drop: float
    given_up: float
    samples_a_class: int | None = None

    def describe(self) -> str:
        """All of it in sentences."""
        gain = f"few-split {self.few_gain:+.1f} points, overall {-self.overall_drop:+.1f}"
        if self.few_gain > 0:
            told = f"{gain} on validation, {self.limits.describe()}"
            if self.limits.promises:
                told += f"; that confidence costs {self.given_up:.1f} points of few-split gain"
            return f"{told}."
        told = f"No correction gains anything with {self.limits.describe()}"
        if not self.given_up:
            return f"{told}."
        told += f"; on validation alone the few split would gain {self.given_up:.1f}"
        if self.samples_a_class is None:
            return f"{told}."
        return (
            f"{told}. To promise half of that takes about {self.samples_a_class:,} validation "
            "samples a class."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data: what `Correction.moved` needs is the margin, and ``asked`` in words."""
        asked = self.limits.describe()
        return {**asdict(self), "asked": asked, "holds": True, "text": self.describe()}


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Attributes:
        found: The choice, or None where nothing beats the base model within the limits.
        best: For each path its best candidate that is allowed, or None.
        safest: The candidate with the most slack, the best of them, whether it is enough or not.
        promise: What can be said of fresh samples; None without limits.
    """

    found: Candidate | None
    best: tuple[Candidate | None, ...]
    safest: Candidate
    promise: Promise | None = None

    @property
    def kept(self) -> bool:
        """Whether any candidate keeps the limits, be it better than the base model or not."""
        margin = None if self.promise is None else self.promise.margin
        return margin is not None and self.safest.slack >= margin


def choose_within(
    paths: Sequence[Path], samples: Samples, *, margin: float | None = None
) -> Choice:
    """The candidate with the largest few-split gain that keeps the limits of ``samples``.

    Of all paths, the one of the greatest worth that has such a candidate (see
    `alphafix.metrics.limits`).

    Args:
        paths: At least one, all on the same validation samples.
        samples: These samples, with the limits and their confidence.
        margin: Standard errors of slack that keep the limits, where these paths are some of those
            that a choice is made among; found for these alone by default.
    """
    margin = samples.margin(paths) if margin is None else margin
    best = [_best(place, path, samples, margin) for place, path in enumerate(paths)]
    allowed = [one.allowed for one in best]
    found = _greatest(allowed)
    without = _greatest([one.without for one in best])
    gain, unpromised = (0.0 if one is None else one.few_gain for one in (found, without))
    reach = None
    if samples.limits.promises and gain < unpromised / 2:
        # Slack grows with the root of the number of samples.
        wanted = NORMAL_MARGIN if not np.isfinite(margin) else margin
        slack = max(one.most_slack(unpromised / 2) for one in best)
        if slack > 0:
            present = len(np.unique(samples.labels))
            reach = int(np.ceil((wanted / slack) ** 2 * len(samples.labels) / present))
    promise = Promise(
        limits=samples.limits,
        margin=float(margin) if np.isfinite(margin) else None,
        few_gain=gain,
        overall_drop=0.0 if found is None else found.overall_drop,
        given_up=max(unpromised - gain, 0.0),
        samples_a_class=reach,
    )
    safest = max((one.safest for one in best), key=lambda one: (one.slack, *one.key))
    return Choice(found, tuple(allowed), safest, promise)


# Where no margin is enough: what would be, if the choice among candidates were no problem.
NORMAL_MARGIN = 3.0


@dataclass(frozen=True)
class _Measured:
    """All candidates of one path: few-split gain, slack and drop in points, each of shape M."""

    place: int
    offsets: FloatArray64
    gain: FloatArray64
    drop: FloatArray64
    slack: FloatArray64
    margin: float

    def candidate(self, position: int, worth: float = 0.0) -> Candidate:
        return Candidate(
            self.place,
            float(self.offsets[position]),
            float(self.gain[position]),
            float(self.drop[position]),
            float(self.slack[position]),
            worth,
        )

    def _best_with(self, margin: float) -> Candidate | None:
        places = np.flatnonzero((self.gain > 0) & (self.slack >= margin))
        if not len(places):
            return None
        keys = (-np.abs(self.offsets[places]), self.slack[places], self.gain[places])
        worth = worth_of(self.gain, self.slack, margin)
        return self.candidate(int(places[np.lexsort(keys)[-1]]), worth)

    @property
    def allowed(self) -> Candidate | None:
        return self._best_with(self.margin)

    @property
    def without(self) -> Candidate | None:
        """The best that keeps the limits on these samples, no more."""
        return self._best_with(0.0)

    @property
    def safest(self) -> Candidate:
        keys = (-np.abs(self.offsets), self.gain, self.slack)
        return self.candidate(int(np.lexsort(keys)[-1]))

    def most_slack(self, gain: float) -> float:
        """The most slack of a candidate that gains at least so much; 0 for none."""
        return float(self.slack[self.gain >= max(gain, 1e-9)].max(initial=0.0))


def _best(place: int, path: Path, samples: Samples, margin: float) -> _Measured:
    offsets = path.offsets()
    flips = samples.flips(path.contest, offsets)
    gain = -drop_of(flips, [0]) if flips.sizes[0] else np.zeros(len(offsets))
    drop = drop_of(flips, [0, 1])
    return _Measured(place, offsets, gain, drop, samples.slack(flips), margin)


def _greatest(found: Sequence[Candidate | None]) -> Candidate | None:
    """The first of the best."""
    known = [one for one in found if one is not None]
    return max(known, key=lambda one: one.key, default=None)


def choose_best(paths: Sequence[Path], rule: Rule, classes: ClassTable) -> Choice:
    """The candidate that a rule without limits likes best, if it beats the base model.

    Args:
        paths: At least one, all on the same validation samples.
        rule: The rule.
        classes: The class table.
    """
    found = []
    for place, path in enumerate(paths):
        if path.free:
            curve = trade_off(path.contest, classes)
            position = best_offset(curve, rule)
            offset = float(curve.offsets[position])
        else:
            offset = 0.0
        accuracy = tier_accuracy(path.contest.correct(offset), path.contest.labels, classes)
        found.append((rule.goodness(accuracy), accuracy, _candidate(place, offset, accuracy, rule)))
    _, accuracy, best = max(found, key=lambda one: one[0])
    kept = best if rule.beats(accuracy) else None
    return Choice(kept, tuple(one for _, _, one in found), best)


def _candidate(place: int, offset: float, accuracy: Accuracy, rule: Rule) -> Candidate:
    few, overall = (
        (accuracy[name] or 0.0) - (rule.base[name] or 0.0) for name in ("few", "overall")
    )
    return Candidate(place, offset, few, -overall)


def best_offset(curve: Curve, rule: Rule) -> int:
    """Position of the offset that a rule likes best, the one nearest to 0 among equals."""
    goodness = rule.goodness_along(curve.accuracy)
    if np.isnan(goodness).all():
        goodness = np.zeros(len(goodness))
    best = np.flatnonzero(goodness == np.nanmax(goodness))
    return int(best[np.abs(curve.offsets[best]).argmin()])
