"""Choosing on held-out training samples, honestly: on a head that was not trained on them.

The given head was trained on the samples that are held out, so that it is nearly perfect there:
what is chosen against it is chosen against a figure that fresh samples do not have. Here the
held-out part judges a head that is fitted anew on the rest; what it chooses, the method and its
setting, is then made for the given head from all training samples. The features are still those
of a backbone that has seen all of them; examples/evidence/holdout.py measures what that leaves.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import numpy as np

from alphafix.alphanet.combine import combinations
from alphafix.alphanet.fit import fit, train_trials
from alphafix.alphanet.given import Given
from alphafix.alphanet.kept import Keep
from alphafix.alphanet.settings import FitSettings, HeldOutHead
from alphafix.alphanet.sources import hold_out
from alphafix.errors import InputError, option
from alphafix.metrics.limits import Limits
from alphafix.progress import Progress, silent
from alphafix.rivals import LINEAR_METHODS, RIVALS, alphanet
from alphafix.rivals.data import FitData, Fitted, Offered, choose_method
from alphafix.rivals.retrained import train_new
from alphafix.rivals.training import HeadArrays, best_head, best_rate
from alphafix.values.arrays import FloatArray, FloatArray64
from alphafix.values.correction import Chosen, Correction
from alphafix.values.head import Head
from alphafix.values.trials import Trials

logger = logging.getLogger(__name__)

# Ridge of the closed form, as a share of the mean eigenvalue of the features' covariance.
RIDGES = (1e-3, 1e-2, 1e-1, 1.0)

TRAINED_ON = (
    "chosen on held-out samples that the head was trained on: accuracy there, the base model's "
    "most of all, is not that of fresh samples"
)

UNLIKE = (
    "what was chosen with the refitted head exceeds the limits with the given one even on samples "
    "that it was trained on: the two are too unlike; another refitted head, or validation "
    "features, may do"
)


def refitted(data: FitData, how: HeldOutHead) -> Head:
    """A head of the same kind, fitted on the training samples of ``data`` alone.

    Args:
        data: Samples that are kept as training samples, those held out as validation, and the
            given head, whose units the result has: its logits are scaled by the one factor
            at which they are nearest to the given head's on the kept samples.
        how: "ce", ten epochs of cross-entropy as samples come; "crt", the same with classes drawn
            evenly (Kang et al. 2020, section 4.1); "ridge", least squares on one-hot labels.
    """
    if how == "ridge":
        (rows, biases), _ = best_rate(data, partial(_ridge, data), RIDGES)
    else:
        (rows, biases), _ = best_head(data, train_new(data, balanced=how == "crt"))
    own = rows @ data.features.T + biases[:, None]
    given = data.head.logits(data.features).T
    own, given = (z.astype(np.float64) - z.mean(axis=0) for z in (own, given))
    scale = float((own * given).sum() / (own**2).sum()) / data.head.scale
    return replace(
        data.head,
        weight=(scale * rows).astype(np.float32),
        bias=None if data.head.bias is None else (scale * biases).astype(np.float32),
        source=None,
    )


def _ridge(data: FitData, share: float) -> HeadArrays:
    """W of least squares on one-hot labels: (X'X / N + ridge I)^-1 X'Y / N, X and Y centred."""
    x = data.features.astype(np.float64)
    y = np.eye(len(data.classes))[data.labels]
    biased = data.head.bias is not None
    x_mean, y_mean = (array.mean(axis=0) * biased for array in (x, y))
    x, y = x - x_mean, y - y_mean
    covariance: FloatArray64 = x.T @ x / len(x)
    ridge = share * np.trace(covariance) / len(covariance)
    rows = np.linalg.solve(covariance + ridge * np.eye(len(covariance)), x.T @ y / len(x)).T
    return rows.astype(np.float32), (y_mean - rows @ x_mean).astype(np.float32)


@dataclass(frozen=True)
class HeldOut:
    """Samples held out, and the head that was fitted without them.

    Attributes:
        given: What the user gave.
        settings: How to train and choose.
        data: The kept and the held-out samples with the refitted head.
        inner: The same, for AlphaNet.
    """

    given: Given
    settings: FitSettings
    data: FitData
    inner: Given

    @classmethod
    def of(cls, given: Given, settings: FitSettings, limits: Limits) -> HeldOut:
        """Hold samples out and refit the head on the rest."""
        if settings.holdout is None or settings.holdout_head is None:
            raise InputError("nothing is held out", todo=f"give {option('holdout', 0.2)}")
        seed, how = settings.seeds[0], settings.holdout_head
        kept, held = (one.features() for one in hold_out(given.train, settings.holdout, seed=seed))
        data = FitData(kept, held, given.head, given.classes, limits, seed)
        head = refitted(data, how)
        logger.info(
            "%d of %d training samples held out; the setting is chosen there on a head that was "
            "refitted (%s) on the others, and then made for the given head from all of them",
            *(len(held), len(given.train), how),
        )
        inner = Given(kept, held, head, given.classes, given.neighbours)
        own = replace(settings, holdout=None, holdout_head=None)
        return cls(given, own, replace(data, head=head), inner)

    def real(self) -> FitData:
        """The given head, with all training samples."""
        return replace(self.data, train=self.given.train, head=self.given.head)

    def breaks_limits(self, scorer: Callable[[FloatArray], FloatArray]) -> bool:
        """Whether a correction of the given head exceeds a limit on the held-out samples.

        The given head was trained on them and is surer there than on fresh ones: what exceeds a
        limit even so was chosen on a head too unlike it.

        Args:
            scorer: n x D features -> n x C logits of the corrected head.
        """
        real = self.real()
        flips = real.samples.flips(real.contest_of(scorer), np.zeros(1))
        return bool(real.samples.exceeds(flips)[0])

    def trials(self, found: Trials, keep: Keep | None, progress: Progress) -> Trials:
        """The trials of ``found``, trained for the given head on all training samples.

        They run as long as those of the refitted head ran up to their best epoch, in the median.
        """
        settings, records = self.settings, found.records
        epochs = max(1, round(median(record.epoch for record in records)))
        again = replace(
            settings,
            rhos=tuple(dict.fromkeys(record.rho for record in records)),
            ks=tuple(dict.fromkeys(record.k for record in records)),
            seeds=tuple(dict.fromkeys(record.seed for record in records)),
            hyper=replace(settings.hyper, epochs=epochs),
            select="none",
            calibrate=False,
        )
        return train_trials(replace(self.given, val=None), again, keep=keep, progress=progress)

    def note(self, chosen: Chosen) -> Chosen:
        """What was chosen on the refitted head, with where its figures are from."""
        told = (
            f"chosen on {len(self.data.val)} held-out training samples with a head that was "
            "refitted without them; the figures are that head's, not the given one's"
        )
        return replace(chosen, settings={**chosen.settings, "held_out": told})


def choose_on_refitted(
    method: str,
    given: Given,
    settings: FitSettings,
    limits: Limits,
    *,
    keep: Keep | None = None,
    progress: Progress = silent,
) -> Correction:
    """Choose on held-out samples with a head refitted without them; carry it to the given head.

    Args:
        method: A closed form of `alphafix.rivals.LINEAR_METHODS`, or "auto": AlphaNet and all of
            those.
        given: Features, head, class table and neighbours; validation features are not used.
        settings: Those of AlphaNet, with ``holdout`` and ``holdout_head``.
        limits: What may be lost.
        keep: Where AlphaNet's finished trials for the given head are kept.
        progress: Told of long work.

    Returns:
        The correction of the given head; ``chosen`` has the refitted head's figures. The base
        model where nothing beats that within the limits.

    Raises:
        InputError: If the method trains a head of its own, whose learning rate could be chosen on
            samples alone that the given features know.
    """
    names = [name for name in LINEAR_METHODS if not RIVALS[name].trains]
    if method != "auto":
        if method not in names:
            raise InputError(
                f"{option('method', method)} trains a head, whose setting cannot be carried over",
                expected=", ".join(["alphanet", "auto", *names]),
                todo="extract validation features for it",
            )
        names = [method]
    held = HeldOut.of(given, settings, limits)
    data, biased = held.data, given.head.bias is not None
    offers: list[Offered] = []
    trials: Trials | None = None
    if method == "auto":
        trials = train_trials(held.inner, held.settings, progress=progress)
        offers.append(alphanet.offer(data, trials, calibrated=biased))
    with progress("fitting methods", len(names)) as advance:
        for name in names:
            offers.append(RIVALS[name].offer(data))
            advance(1)
    outcome = choose_method(data, offers)
    choice = outcome.choice
    candidate = choice.found or (choice.safest if settings.allow_worse else None)
    promise = None if choice.promise is None else choice.promise.to_dict()
    if candidate is None:
        chosen = held.note(Chosen({"method": method}, data.base, data.base, promise=promise))
        why = f"nothing gains anything on held-out samples with {limits.describe()}"
        return Correction.none(given.head, given.classes.few, chosen, method, why=why)
    one, place = _which(outcome.offers, candidate.place)
    measured, real = outcome.build(candidate), held.real()
    if trials is not None and one is offers[0]:
        made = alphanet.offer(real, held.trials(trials, keep, progress), calibrated=biased)
    else:
        made = RIVALS[one.method].offer(real, **one.again)
    if len(made.paths) != len(one.paths):
        raise InputError(f"the settings of {made.method} are others for the given head")
    fitted = made.build(place, candidate.offset)
    if not settings.allow_worse and held.breaks_limits(fitted.logits):
        chosen = held.note(Chosen({"method": method}, data.base, data.base, promise=promise))
        few = given.classes.few
        return Correction.none(given.head, few, chosen, fitted.method, why=UNLIKE)
    return _carried(held, fitted, measured, promise)


def _which(offers: Sequence[Offered], place: int) -> tuple[Offered, int]:
    """The offer of a candidate, and its place there."""
    for offer in offers:
        if place < len(offer.paths):
            return offer, place
        place -= len(offer.paths)
    raise IndexError(place)


def _carried(
    held: HeldOut, fitted: Fitted, measured: Fitted, promise: dict[str, object] | None
) -> Correction:
    if fitted.correction is None:
        raise InputError(f"{fitted.method} gave no linear head")
    chosen = replace(
        fitted.correction.chosen, val=measured.val, val_base=held.data.base, promise=promise
    )
    # A curve of the given head on samples that it was trained on tells nothing.
    return replace(fitted.correction, chosen=held.note(chosen), curve=None)


def alphanet_on_refitted(
    given: Given, settings: FitSettings, *, keep: Keep | None = None, progress: Progress = silent
) -> Correction:
    """AlphaNet, its setting chosen on a refitted head (for the arguments see `alphafix.alphanet`).

    Rho, K, seeds, length of training and offset are those chosen; the trials are trained again
    for the given head.
    """
    held = HeldOut.of(given, settings, settings.limits)
    found = fit(held.inner, held.settings, progress=progress)
    head, few = given.head, given.classes.few
    chosen = held.note(found.chosen)
    if found.is_base or found.trials is None:
        why = f"{found.kept_because}, with a head refitted without the held-out samples"
        return Correction.none(head, few, chosen, "alphanet", why=why)
    trials = held.trials(_of_setting(found.trials, found.chosen), keep, progress)
    (one,) = combinations(trials, ensemble="mean")
    one = one.shifted(found.chosen.offset, head.scale)
    biases = None if found.biases is None else one.biases
    made = Correction(few, one.rows(head.weight, few), biases, chosen=chosen, trials=trials)
    if not settings.allow_worse and held.breaks_limits(made.apply(head).logits):
        chosen = replace(chosen, val=chosen.val_base)
        return Correction.none(head, few, chosen, "alphanet", why=UNLIKE)
    return made


def _of_setting(trials: Trials, chosen: Chosen) -> Trials:
    """The trials that a chosen setting is made of."""
    places = [
        place
        for place, record in enumerate(trials.records)
        if (record.rho, record.k) == (chosen.rho, chosen.k) and record.seed in chosen.seeds
    ]
    return Trials(
        tuple(trials.records[place] for place in places),
        trials.neighbors[places],
        trials.alphas[places],
        trials.biases[places],
    )
