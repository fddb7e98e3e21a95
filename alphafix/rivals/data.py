"""What every rival is fitted on, and what fitting gives: the one interface of this folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from alphafix.features.features import Features
from alphafix.features.scatter import WithinClass
from alphafix.features.sums import ClassSums
from alphafix.metrics.accuracy import Accuracy, tier_accuracy
from alphafix.metrics.limits import DEFAULT_LIMITS, Limits, Samples
from alphafix.metrics.selection import Candidate, Choice, Promise, choose_within
from alphafix.metrics.trade_off import Contest, Path, trade_off
from alphafix.rivals.budget import Budget
from alphafix.rivals.likelihood import SAMPLES, least_loss, terms
from alphafix.values.arrays import BoolArray, FloatArray, FloatArray64, IntArray
from alphafix.values.classes import ClassTable
from alphafix.values.correction import Chosen, Correction
from alphafix.values.curve import Curve
from alphafix.values.head import Head

# Samples whose C logits are held at a time when a setting is tried on validation.
CHUNK = 4096

PREFERRED = "lda"
"""The method that is taken unless another surely gains more.

On eight of nine data sets of `examples/evidence` it is the best closed form on fresh samples or
within 0.2 points of it, and taking it was better than what each validation set said of ten methods.
"""

T = TypeVar("T")


class Trainings:
    """What was trained on some training samples, kept.

    Validation samples only choose among heads that were trained with several settings. So for
    other validation samples, or other limits, nothing is trained again.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], tuple[tuple[object, ...], Any]] = {}

    def once(self, data: FitData, key: tuple[object, ...], train: Callable[[], T]) -> T:
        """What ``train`` gave for the same training samples, head, classes, seed and key."""
        given, place = (data.train, data.head, data.classes), (*key, data.seed)
        before, found = self._known.get(place, ((None,) * len(given), None))
        if any(one is not other for one, other in zip(given, before, strict=True)):
            found = train()
            self._known[place] = given, found
        kept: T = found
        return kept


@dataclass(frozen=True)
class FitData:
    """Features, head and classes: all that a post-hoc method may look at.

    Attributes:
        train: Training features and labels.
        val: Validation features and labels, on which hyper-parameters are chosen.
        head: The head to improve on.
        classes: The class table.
        limits: What a method with a knob between few and base classes may cost.
        seed: Seed of everything random.
        budget: Asked at each step of training whether there is time left.
        trainings: Where trained heads are kept, for other validation samples; None: nowhere.
    """

    train: Features
    val: Features
    head: Head
    classes: ClassTable
    limits: Limits = DEFAULT_LIMITS
    seed: int = 0
    budget: Budget = field(default_factory=Budget, compare=False)
    trainings: Trainings | None = field(default=None, repr=False, compare=False)

    def once(self, key: tuple[object, ...], train: Callable[[], T]) -> T:
        """What ``train`` gives without looking at validation; trained once where that is kept.

        Args:
            key: Tells the method and its settings.
            train: Trains a head.
        """
        return train() if self.trainings is None else self.trainings.once(self, key, train)

    @cached_property
    def features(self) -> FloatArray:
        """Training features, float32 of shape N x D."""
        return self.train.array()

    @property
    def labels(self) -> IntArray:
        """Their classes, int64 of shape N."""
        return self.train.labels

    @cached_property
    def val_features(self) -> FloatArray:
        """Validation features, float32 of shape n x D."""
        return self.val.array()

    @property
    def val_labels(self) -> IntArray:
        """Their classes, int64 of shape n."""
        return self.val.labels

    @cached_property
    def means(self) -> FloatArray64:
        """Class means of the training features, float64 of shape C x D; 0 without samples."""
        return np.nan_to_num(self.train.class_means())

    @cached_property
    def counts(self) -> FloatArray64:
        """Training samples of each class as float64, shape C; at least 1 each."""
        counts = np.bincount(self.labels, minlength=len(self.classes))
        return np.maximum(counts, 1).astype(np.float64)

    @cached_property
    def prior(self) -> FloatArray64:
        """Share of each class among the training samples, float64 of shape C."""
        return np.asarray(self.counts / self.counts.sum())

    @cached_property
    def within(self) -> WithinClass:
        """Within-class covariance of the base classes' training features.

        Few-split samples do not count: a backbone that was trained on a handful of samples has
        them by heart, so that their scatter says nothing of new ones.
        """
        return self.train.within_class(self.classes.base)

    @cached_property
    def base(self) -> Accuracy:
        """Accuracy of the base head by split on validation."""
        return tier_accuracy(self.base_right, self.val_labels, self.classes)

    @cached_property
    def base_right(self) -> BoolArray:
        """Whether the base head is right on each validation sample, bool of shape n."""
        return np.asarray(predictions(self.head.logits, self.val_features) == self.val_labels)

    def validate(self, scorer: Callable[[FloatArray], FloatArray]) -> Accuracy:
        """Accuracy by split of n x D -> n x C logits on validation."""
        return self.accuracy(predictions(scorer, self.val_features))

    def accuracy(self, predicted: IntArray) -> Accuracy:
        """Accuracy by split of predictions on the validation samples."""
        return tier_accuracy(predicted == self.val_labels, self.val_labels, self.classes)

    def loss(self, scorer: Callable[[FloatArray], FloatArray]) -> float:
        """How unlikely logits make validation (see `alphafix.rivals.likelihood`)."""
        stride = -(-len(self.val_labels) // SAMPLES)
        x, labels = self.val_features[::stride], self.val_labels[::stride]
        few = self.classes.few
        order = np.concatenate([few, self.classes.base])
        scores = scorer(x)[:, order].astype(np.float32)
        # Scores of another kind, cosines say, can be far from the head's in size.
        scores *= np.float32(self.head.logits(x).std() / max(float(scores.std()), 1e-12))
        return least_loss(terms(scores, len(few), np.argsort(order)[labels]), np.isin(labels, few))

    def contest(self, logits: FloatArray | FloatArray64) -> Contest:
        """Few-split against base classes in logits of the validation samples, n x C."""
        single = logits.astype(np.float32, copy=False)
        return Contest.of(single, self.val_labels, self.classes.few)

    def contest_of(self, scorer: Callable[[FloatArray], FloatArray]) -> Contest:
        """The same of n x D -> n x C logits."""
        parts = [
            Contest.of(
                scorer(self.val_features[start : start + CHUNK]),
                self.val_labels[start : start + CHUNK],
                self.classes.few,
            )
            for start in range(0, len(self.val_labels), CHUNK)
        ]
        return Contest.join(parts)

    def curve(self, contest: Contest, offset: float = 0.0) -> Curve:
        """The curve of a contest, as a correction keeps it.

        Args:
            contest: Of its scores on validation.
            offset: What these have on few-split scores already.
        """
        return self.samples.along(contest, trade_off(contest, self.classes)).shifted(offset)

    @cached_property
    def samples(self) -> Samples:
        """The validation samples as candidates are held against the limits on them."""
        return Samples(self.classes, self.val_labels, self.base_right, self.limits, self.seed)


@dataclass(frozen=True)
class Fitted:
    """A fitted method.

    Attributes:
        method: Its name.
        logits: n x D features -> n x C logits.
        settings: The hyper-parameters that validation chose.
        val: Accuracy by split on validation.
        correction: The head's new rows, where the method is a linear head; then ``logits``
            are those of the corrected head.
        promise: What the choice of its setting says of fresh samples, once it was made.
    """

    method: str
    logits: Callable[[FloatArray], FloatArray]
    settings: dict[str, Any]
    val: Accuracy
    correction: Correction | None = field(default=None, repr=False)
    promise: Promise | None = None


@dataclass(frozen=True)
class Offered:
    """The settings of a method before one is chosen on validation.

    Attributes:
        method: Its name.
        paths: One a setting.
        build: Gives the fitted method for the number of a setting and an offset.
        again: What the method must be told to offer the same settings on other data, where it has
            chosen among them itself.
    """

    method: str
    paths: Sequence[Path]
    build: Callable[[int, float], Fitted]
    again: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, data: FitData, found: Sequence[Fitted]) -> Offered:
        """Methods that are fitted already and have no offset to choose."""
        paths = [Path(data.contest_of(one.logits)) for one in found]
        return cls(found[0].method, paths, lambda place, offset: found[place])


@dataclass(frozen=True)
class Outcome:
    """A choice among methods and all their settings.

    Attributes:
        offers: The methods.
        choice: What was chosen of their paths, one after another.
        rest: Choices within other methods, which could have been this one.
    """

    offers: Sequence[Offered]
    choice: Choice
    rest: Sequence[Outcome] = ()

    def build(self, candidate: Candidate) -> Fitted:
        """The fitted method of a candidate."""
        place = candidate.place
        for offer in self.offers:
            if place < len(offer.paths):
                found = offer.build(place, candidate.offset)
                return replace(found, promise=self.choice.promise)
            place -= len(offer.paths)
        raise IndexError(candidate.place)

    @property
    def fitted(self) -> Fitted | None:
        """The choice; None where nothing beats the base model within the limits."""
        return None if self.choice.found is None else self.build(self.choice.found)

    @property
    def safest(self) -> Fitted:
        """What is nearest to keeping the limits."""
        return self.build(self.choice.safest)

    def by_method(self) -> dict[str, Candidate | None]:
        """The best candidate of each method that keeps the limits."""
        found, start = {}, 0
        for offer in self.offers:
            mine = self.choice.best[start : start + len(offer.paths)]
            start += len(offer.paths)
            known = [one for one in mine if one is not None]
            found[offer.method] = max(known, key=lambda one: one.key, default=None)
        for other in self.rest:
            found |= other.by_method()
        return found


def choose(data: FitData, offers: Sequence[Offered]) -> Outcome:
    """Choose among all settings of some methods: the largest few-split gain within the limits.

    One choice among all of them at once, so that what the limits' confidence takes is found for
    the choice as it is made.
    """
    paths = [path for offer in offers for path in offer.paths]
    return Outcome(offers, choose_within(paths, data.samples))


def choose_method(data: FitData, offers: Sequence[Offered]) -> Outcome:
    """Choose the setting of each method as `choose` does, and then a method.

    The largest count on validation is that of the luckiest of many. So of the methods whose
    few-split gain is not to be told from the largest, being less than two standard errors of so
    many samples below it, `PREFERRED` is the choice, and where that is not among them, the one
    under which validation is the likeliest. Where no method gains anything within the limits, the
    base model is the choice. What the limits' confidence takes is found for the choice of the
    largest gain among all methods, which chases luck more than this one does.
    """
    margin = data.samples.margin([path for offer in offers for path in offer.paths])
    outcomes = [
        Outcome([offer], choose_within(offer.paths, data.samples, margin=margin))
        for offer in offers
    ]
    gains = np.array([_worth(one) for one in outcomes])
    if len(offers) == 1 or not (gains > -np.inf).any():
        return choose(data, offers)
    few = max(int(np.isin(data.val_labels, data.classes.few).sum()), 1)
    near = np.flatnonzero(gains >= gains.max() - 2 * 50 / np.sqrt(few)).tolist()
    preferred = [place for place in near if offers[place].method == PREFERRED]
    if preferred:
        near = preferred
    fitted = [outcomes[place].fitted for place in near]
    losses = [np.inf if one is None else data.loss(one.logits) for one in fitted]
    best: Outcome = outcomes[near[int(np.argmin(losses))]]
    return replace(best, rest=tuple(one for one in outcomes if one is not best))


def _worth(outcome: Outcome) -> float:
    return -np.inf if outcome.choice.found is None else outcome.choice.found.worth


def linear(
    method: str,
    data: FitData,
    rows: FloatArray64 | FloatArray,
    biases: FloatArray64 | FloatArray,
    *,
    classes: IntArray | None = None,
    settings: dict[str, Any] | None = None,
) -> Fitted:
    """A method whose result is a linear head.

    Args:
        method: Its name.
        data: What it was fitted on.
        rows: New rows for logits without scale, R x D.
        biases: New biases, R; where the head has none and all are zero, it gets none.
        classes: The R classes whose rows are given; all C by default.
        settings: The hyper-parameters that were chosen.
    """
    head = data.head
    changed = np.arange(head.num_classes) if classes is None else classes
    biased = head.bias is not None or bool(np.any(biases))
    correction = Correction(
        classes=changed.astype(np.int64),
        rows=(rows / head.scale).astype(np.float32),
        biases=(biases / head.scale).astype(np.float32) if biased else None,
        method=method,
    )
    return of_correction(data, correction, settings or {})


def of_correction(data: FitData, correction: Correction, settings: dict[str, Any]) -> Fitted:
    """A method of which the corrected rows are there already.

    Args:
        data: What it was fitted on.
        correction: The rows.
        settings: The hyper-parameters that were chosen.
    """
    logits = correction.apply(data.head).logits
    contest = data.contest_of(logits)
    val = tier_accuracy(contest.correct(), data.val_labels, data.classes)
    chosen = Chosen({"method": correction.method, **settings}, val, data.base)
    curve = data.curve(contest, chosen.offset)
    found = replace(correction, chosen=chosen, curve=curve)
    return Fitted(correction.method, logits, settings, val, found)


def predictions(scorer: Callable[[FloatArray], FloatArray], features: FloatArray) -> IntArray:
    """Class of the largest logit, int64 of shape n."""
    parts = [
        scorer(features[start : start + CHUNK]).argmax(axis=1)
        for start in range(0, len(features), CHUNK)
    ]
    return np.concatenate(parts).astype(np.int64)


def class_means(
    values: FloatArray | FloatArray64, labels: IntArray, num_classes: int
) -> FloatArray64:
    """Mean of the rows of each class, float64 of shape C x D; zeros for one without samples."""
    found = ClassSums(num_classes, values.shape[1])
    found.add(values, labels)
    return np.asarray(found.sums / np.maximum(found.counts, 1)[:, None])


def unit(rows: FloatArray64) -> FloatArray64:
    """Rows of length one; a row of zeros stays one."""
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.where(norms == 0, 1, norms))
