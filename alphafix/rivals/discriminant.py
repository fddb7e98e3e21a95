"""The head and a linear discriminant of the class means: one family, from a closed form.

    z'_c = z_c + s (x - mu).d_c - tau log pi_c + t [c is few-split],
    d_c = P^-1 (m_c - mu) / sqrt((m_c - mu).P^-1 (m_c - mu)),
    P = (1 - gamma) D/tr(S) S + gamma I.

mu is the mean of the class means m_c, which does not depend on how frequent a class is, and S the
class-balanced within-class covariance of the base classes. P^-1 (m_c - mu) are the rows of
regularised discriminant analysis with one covariance for all classes (Friedman 1989), as recent
continual learning fits them to frozen features too (Hayes and Kanan 2020; Panos et al. 2023);
d_c has them of unit length in the metric of P, so that a mean of few samples, which lies farther
out by its noise alone, makes no longer row. gamma = 1 gives unit (m_c - mu): "mean-directions".

gamma, s and tau are those under which the validation samples are the likeliest, whatever t is (see
`alphafix.rivals.likelihood`): chosen by right answers under a limit instead, as t is, they gave 0.1
to 0.9 points of few-split accuracy less on four of four data sets.

A linear head again: rows w_c + s d_c and biases b_c - s mu.d_c - tau log pi_c + t.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from alphafix.features.scatter import LEAST_SHRINKAGE, directions
from alphafix.metrics.trade_off import Contest, Path
from alphafix.rivals.data import FitData, Fitted, Offered, linear, unit
from alphafix.rivals.likelihood import SAMPLES, TEMPERATURES, least_loss, terms
from alphafix.values.arrays import FloatArray, FloatArray64, IntArray

# Multiples of the strength at which the directions' scores vary as much as the logits do.
STRENGTHS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0)

# The discriminant's own, and those of its limit.
LDA_STRENGTHS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
LIMIT_STRENGTHS = (0.1, 0.2, 0.3, 0.5, 1.0)
TAUS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)

# Validation samples that say how much scores vary, and bytes of scores that are worked on at a
# time, which should stay in the processor's cache.
SCALE_SAMPLES = 2048
CHUNK_BYTES = 4 << 20


@dataclass(frozen=True)
class Setting:
    """Hyper-parameters of the family but for t, which follows from them.

    Attributes:
        shrinkage: gamma.
        strength: s.
        tau: tau.
    """

    shrinkage: float
    strength: float
    tau: float


def lda(data: FitData, *, few_only: bool = False, place: int | None = None) -> Offered:
    """The family with the shrinkage of Ledoit and Wolf, or gamma = 1; s, tau, t on validation.

    The likelihood of validation decides gamma, s and tau (see `alphafix.rivals.likelihood`), and
    the limits t.

    Args:
        data: What to fit on.
        few_only: Change the rows of few-split classes only (base rows stay untouched; tau is 0).
        place: The number of the setting, where it was chosen on other data.
    """
    own = max(data.within.shrinkage, LEAST_SHRINKAGE)
    strengths = {own: LDA_STRENGTHS} if own >= 1 else {own: LDA_STRENGTHS, 1.0: LIMIT_STRENGTHS}
    taus = (0.0,) if few_only else TAUS
    family = Family.of("lda", data, strengths, taus, few_only=few_only)
    place = family.likeliest() if place is None else place
    only = replace(family, settings=(family.settings[place],))
    return replace(_offer(only), again={"place": place})


def mean_directions(data: FitData, *, few_only: bool = False) -> Offered:
    """The family with gamma = 1 and tau = 0; s and t on validation (see `lda`)."""
    return _offer(Family.of("mean-directions", data, {1.0: STRENGTHS}, (0.0,), few_only=few_only))


def _offer(family: Family) -> Offered:
    """All settings, each with any few-split offset t."""
    paths = [Path(contest, free=True) for contest in family.contests()]
    return Offered(family.name, paths, family.build)


@dataclass(frozen=True)
class Family:
    """Settings to choose from, and what the logits of each are made of.

    Attributes:
        name: The method.
        data: What it is fitted on.
        settings: The settings.
        changed: Classes whose rows change, int64 of shape R.
        directions: d of these by shrinkage, float64 of shape R x D.
        center: mu, float64 of shape D.
    """

    name: str
    data: FitData
    settings: tuple[Setting, ...]
    changed: IntArray
    directions: Mapping[float, FloatArray64]
    center: FloatArray64

    @classmethod
    def of(
        cls,
        name: str,
        data: FitData,
        strengths: Mapping[float, Sequence[float]],
        taus: Sequence[float],
        *,
        few_only: bool,
    ) -> Family:
        """All strengths (in units of the logits') of some shrinkages, each with all taus."""
        classes = data.classes
        changed = classes.few if few_only else np.arange(len(classes))
        known = data.train.class_counts() > 0
        center = data.means[known].mean(axis=0)
        # A class without training samples has no direction.
        centered = np.where(known[:, None], data.means - center, 0.0)
        found = {
            gamma: (unit(centered) if gamma == 1 else directions(data.within, gamma, centered))
            for gamma in strengths
        }
        found = {gamma: rows[changed] for gamma, rows in found.items()}
        settings = []
        for gamma, rows in found.items():
            scale = _unit_strength(data, rows)
            settings += [Setting(gamma, s * scale, tau) for s in strengths[gamma] for tau in taus]
        return cls(
            f"{name}-few" if few_only else name, data, tuple(settings), changed, found, center
        )

    def build(self, place: int, offset: float) -> Fitted:
        """The method with one of the settings, and t."""
        data, changed, setting = self.data, self.changed, self.settings[place]
        head = data.head
        rows = setting.strength * self.directions[setting.shrinkage]
        biases = head.bias_or_zeros[changed] * head.scale - rows @ self.center
        biases -= setting.tau * np.log(data.prior)[changed]
        biases[np.isin(changed, data.classes.few)] += offset
        return linear(
            self.name,
            data,
            head.weight[changed] * head.scale + rows,
            biases,
            classes=changed,
            settings={**vars(setting), "offset": offset},
        )

    def likeliest(self) -> int:
        """The number of the setting under which validation is the most likely."""
        data = self.data
        stride = -(-len(data.val_labels) // SAMPLES)
        x, labels = data.val_features[::stride], data.val_labels[::stride]
        few = data.classes.few
        own = np.argsort(self._order)[labels]
        found = np.empty((len(self.settings), len(TEMPERATURES), 3, len(labels)), dtype=np.float32)
        for part, i, z in self._logits(x):
            found[i, :, :, part] = terms(z, len(few), own[part])
        is_few = np.isin(labels, few)
        return int(np.argmin([least_loss(one, is_few) for one in found]))

    def contests(self) -> list[Contest]:
        """Few-split against base classes on validation, for every setting at t = 0."""
        labels, order, few = self.data.val_labels, self._order, len(self.data.classes.few)
        shape = (len(self.settings), len(labels))
        gap, few_right, base_right = (np.empty(shape, kind) for kind in ("f4", "?", "?"))
        for part, i, z in self._logits(self.data.val_features):
            every, own = np.arange(len(z)), labels[part]
            best_few, best_base = z[:, :few].argmax(axis=1), z[:, few:].argmax(axis=1) + few
            gap[i, part] = z[every, best_base] - z[every, best_few]
            few_right[i, part] = order[best_few] == own
            base_right[i, part] = order[best_base] == own
        return [Contest(*one, labels) for one in zip(gap, few_right, base_right, strict=True)]

    @property
    def _order(self) -> IntArray:
        """Few-split classes first: each side is a slice then, and so are the changed classes."""
        classes = self.data.classes
        return np.concatenate([classes.few, classes.base])

    def _logits(self, features: FloatArray) -> Iterator[tuple[slice, int, FloatArray]]:
        """Yield the logits of some samples at t = 0, setting by setting, in the order of `_order`.

        Those of a few samples at a time are made for all settings in turn, so that they stay in
        the processor's cache. They are overwritten by the next.
        """
        data, changed, center, order = self.data, self.changed, self.center, self._order
        head, some = data.head, len(changed)
        weight = (head.weight * np.float32(head.scale))[order]
        bias = head.bias_or_zeros[order] * np.float32(head.scale)
        prior = np.log(data.prior)[order].astype(np.float32)
        rows = {
            gamma: found[np.searchsorted(changed, order[:some])]
            for gamma, found in self.directions.items()
        }
        shifts = {gamma: (found @ center).astype(np.float32) for gamma, found in rows.items()}
        narrow = {gamma: found.astype(np.float32) for gamma, found in rows.items()}
        step = max(16, CHUNK_BYTES // (4 * len(order)))
        by_tau = sorted(range(len(self.settings)), key=lambda i: self.settings[i].tau)
        for start in range(0, len(features), step):
            part = slice(start, start + step)
            x = features[part]
            plain = adjusted = x @ weight.T + bias
            scores = {gamma: x @ narrow[gamma].T - shifts[gamma] for gamma in rows}
            z, tau = plain.copy(), 0.0
            for i in by_tau:
                one = self.settings[i]
                if one.tau != tau:
                    adjusted = plain - np.float32(one.tau) * prior
                    z[:, some:], tau = adjusted[:, some:], one.tau
                np.multiply(scores[one.shrinkage], np.float32(one.strength), out=z[:, :some])
                z[:, :some] += adjusted[:, :some]
                yield part, i, z


def _unit_strength(data: FitData, rows: FloatArray64) -> float:
    """The s at which x.d_c vary as much as the logits do."""
    some = data.val_features[:: max(1, len(data.val_features) // SCALE_SAMPLES)]
    spread = float((some @ rows.T.astype(np.float32)).std())
    return float(data.head.logits(some).std()) / (spread or 1.0)
