"""AlphaNet, its control and all rivals, fitted on the same features and measured side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import numpy as np

from alphafix.alphanet.fit import train_trials
from alphafix.alphanet.given import Given
from alphafix.alphanet.measure import trial_accuracies
from alphafix.alphanet.pool import WIDER_POOL
from alphafix.alphanet.settings import FitSettings
from alphafix.errors import InputError, call, option
from alphafix.features.features import Features
from alphafix.metrics.bootstrap import Resampling
from alphafix.metrics.comparison import BASE, BySeeds, Comparison, Method, over_seeds
from alphafix.metrics.limits import DEFAULT_LIMITS, Limits
from alphafix.metrics.predictions import predict
from alphafix.metrics.trade_off import Contest, trade_off
from alphafix.metrics.verdict import CommonDraws, verdict
from alphafix.progress import Progress, Whole, silent
from alphafix.rivals import RIVALS, alphanet
from alphafix.rivals.data import FitData, Fitted, Offered, choose, choose_method
from alphafix.values.correction import Correction
from alphafix.values.neighbors import Neighbours
from alphafix.values.trials import Trials

Result = TypeVar("Result")

# Points of the few-bias curve that are kept for the picture.
CURVE_POINTS = 200

# What measuring takes in times of one trial of AlphaNet, and a trial alone, which trains no
# others with it: for the bar.
MEASURING, ALONE = 4.0, 2.0

# Before the name of a method with another setting than that of its own row.
CHOICE = "chosen: "


@dataclass(frozen=True)
class CompareSettings:
    """What is compared.

    Attributes:
        methods: Names of the rivals; none for all.
        rhos: Values of rho for AlphaNet.
        seeds: AlphaNet's trials for each rho.
        ks: Values of K for AlphaNet's figures by K; as far as there are so many neighbours.
        on_top_seeds: Trials of AlphaNet on the head of each other linear method; 0 to leave
            these out.
        one_rho: Rho of AlphaNet on top of other heads, and of ``ks``.
        limits: What a method with a knob may cost.
        draws: Bootstrap draws.
        seed: Seed of everything random.

    Raises:
        InputError: If a method is unknown.
    """

    methods: tuple[str, ...] = ()
    rhos: tuple[float, ...] = (0.1, 0.25, 0.5, 1.0, 2.0)
    seeds: int = 5
    ks: tuple[int, ...] = (2, 3, 5, 10)
    on_top_seeds: int = 2
    one_rho: float = 0.5
    limits: Limits = DEFAULT_LIMITS
    draws: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [name for name in self.methods if name not in RIVALS]
        if unknown:
            raise InputError(
                f"there is no method {unknown[0]}",
                got=f"{option('methods')} {unknown[0]}",
                expected=", ".join(RIVALS),
            )

    def of_alphanet(
        self, rhos: tuple[float, ...], k: int, seeds: int, metric: str = "euclidean"
    ) -> FitSettings:
        """AlphaNet's settings; on the CPU, where the rivals are fitted too."""
        first = self.seed
        return FitSettings(
            rhos=rhos,
            ks=(k,),
            seeds=tuple(range(first, first + seeds)),
            metric=metric,
            device="cpu",
        )


def compare(
    given: Given,
    test: Features,
    settings: CompareSettings,
    *,
    on: str = "test",
    shipped: Correction | None = None,
    progress: Progress = silent,
) -> Comparison:
    """Fit every method on the same features and measure all on the same samples.

    Args:
        given: Training and validation features, the base head, the class table, and AlphaNet's
            neighbours, whose number is the K of the table.
        test: Features and labels to compare on.
        settings: What is compared.
        on: What ``test`` is called.
        shipped: The correction that is to be patched into the model, which the verdict judges;
            without one, AlphaNet's setting that validation chooses.
        progress: Told of long work.

    Raises:
        InputError: If the values do not fit together.
    """
    given.check()
    replace(given, val=test).check()
    if given.val is None:
        raise InputError(
            "comparing needs validation features, on which settings are chosen",
            todo=f"run {call('extract', split='val')}, or make validation of training images: "
            f"{call('extract', val_fraction=0.2, overwrite=True)}",
        )
    data = FitData(
        given.train, given.val, given.head, given.classes, settings.limits, settings.seed
    )
    names = settings.methods or tuple(RIVALS)
    with Whole(progress, "compare", _costs(settings, names, data)) as whole:
        work = _Comparing(data, test, given.neighbours, settings, whole)
        work.add(Fitted(BASE, data.head.logits, {}, data.base), "base", 0.0)
        work.fit_alphanet()
        for rival in map(RIVALS.__getitem__, names):
            with whole.part(rival.name):
                offer, seconds = _timed(partial(rival.offer, data))
                work.offer(offer, "trained" if rival.trains else "simple", seconds)
        if settings.on_top_seeds:
            work.fit_on_top()
        by_k = work.by_k()
        with whole.part("measuring"):
            roles = work.choices()
            if shipped is not None:
                roles["shipped"] = work.ship(shipped)
            said = predict(test, [found.logits for found in work.fitted])
            correct = np.stack([one.predicted == test.labels for one in said], axis=1)
    resampling = Resampling(settings.draws, settings.seed)
    common = CommonDraws(data.classes, test.labels, work.methods, correct, resampling, on)
    rows = common.rows()
    return Comparison(
        classes=data.classes,
        on=on,
        samples=len(test),
        limits=data.limits,
        rows=rows,
        verdict=verdict(common, rows, roles, data.limits),
        resampling=resampling,
        roles=roles,
        curves={"few-bias": _curve(data, test)},
        by_k=by_k,
    )


def _costs(settings: CompareSettings, names: Sequence[str], data: FitData) -> list[float]:
    """What each part takes, in times of one trial of AlphaNet."""
    rivals = [RIVALS[name].cost for name in names]
    of_alphanet = float(len(settings.rhos) * settings.seeds)
    by_k = [float(settings.seeds)] * len(_ks(settings, data))
    on_top = ALONE * settings.on_top_seeds * sum(RIVALS[name].linear for name in names)
    others = [on_top] if settings.on_top_seeds else []
    return [of_alphanet, float(settings.seeds), of_alphanet, *rivals, *others, *by_k, MEASURING]


def _ks(settings: CompareSettings, data: FitData) -> list[int]:
    return sorted({k for k in settings.ks if k < len(data.classes.base)})


@dataclass
class _Comparing:
    """The methods of a comparison as they are fitted."""

    data: FitData
    test: Features
    neighbours: Neighbours
    settings: CompareSettings
    whole: Whole
    methods: list[Method] = field(default_factory=list)
    fitted: list[Fitted] = field(default_factory=list)
    offers: list[tuple[str, Offered]] = field(default_factory=list)

    def add(
        self,
        found: Fitted,
        family: str,
        seconds: float,
        seeds: BySeeds | None = None,
        *,
        within: bool = True,
    ) -> None:
        """Take a fitted method as a row."""
        self.methods.append(
            Method(
                found.method,
                family,
                family == "base" or found.correction is not None,
                found.settings,
                found.val,
                seeds,
                round(seconds, 2),
                within,
            )
        )
        self.fitted.append(found)

    def offer(
        self, offer: Offered, family: str, seconds: float, seeds: BySeeds | None = None
    ) -> Fitted:
        """Take a method with the setting that validation chooses as a row."""
        outcome = choose(self.data, [offer])
        found = outcome.fitted or outcome.safest
        self.add(found, family, seconds, seeds, within=outcome.choice.kept)
        if found.correction is not None:
            self.offers.append((family, offer))
        return found

    def choices(self) -> dict[str, str]:
        """What validation chooses among all methods and their settings at once.

        A choice that is a row already is that one; another setting of a method is a row more.
        """
        roles = {}
        families = {
            "best": {family for family, _ in self.offers} - {"random"},
            "simple": {"simple"},
            "alphanet": {"alphanet", "calibrated"},
        }
        for role, mine in families.items():
            offers = [offer for family, offer in self.offers if family in mine]
            found = choose_method(self.data, offers).fitted if offers else None
            if found is not None:
                roles[role] = self._row_of(found)
        return roles

    def _row_of(self, found: Fitted) -> str:
        for one in self.methods:
            if one.name.removeprefix(CHOICE) == found.method and one.settings == found.settings:
                return one.name
        self.add(replace(found, method=CHOICE + found.method), "choice", 0.0)
        return self.methods[-1].name

    def ship(self, correction: Correction) -> str:
        """Take the correction that ships as a row, and return its name."""
        logits = correction.apply(self.data.head).logits
        promise = correction.chosen.promise or {"limits": None}
        settings = {
            "method": correction.method,
            "limits": promise["limits"],
            "promised": promise.get("holds", promise["limits"] is not None),
        }
        name = "base model" if correction.is_base else correction.method
        found = Fitted(
            f"in this run: {name}", logits, settings, self.data.validate(logits), correction
        )
        self.add(found, "shipped", 0.0)
        return found.method

    def fit_alphanet(self) -> None:
        """AlphaNet over rho, with nearest and with random neighbours, and calibrated."""
        settings, k = self.settings, self.neighbours.k
        calibrated: list[tuple[Offered, float]] = []
        one = settings.one_rho if settings.one_rho in settings.rhos else settings.rhos[0]
        wider = replace(settings.of_alphanet((one,), k, settings.seeds), pool=WIDER_POOL)
        for name, family, how in (
            ("alphanet", "alphanet", settings.of_alphanet(settings.rhos, k, settings.seeds)),
            (alphanet.WITH_OWN, "alphanet", wider),
            (
                "alphanet random",
                "random",
                settings.of_alphanet(settings.rhos, k, settings.seeds, "random"),
            ),
        ):
            with self.whole.part(name) as progress:
                trials, seconds = _timed(partial(self._trials, how, progress))
            seconds /= len(how.rhos)
            by_rho = self._seed_figures(trials)
            for found in alphanet.fitted(name, self.data, trials):
                offer = Offered.of(self.data, [found])
                self.offer(offer, family, seconds, by_rho[found.settings["rho"]])
                if family == "alphanet":
                    calibrated.append((alphanet.calibrated(found, self.data), seconds))
        for offer, seconds in calibrated:
            self.offer(offer, "calibrated", seconds)

    def fit_on_top(self) -> None:
        """AlphaNet on the head of every other linear method."""
        settings = self.settings
        how = settings.of_alphanet((settings.one_rho,), self.neighbours.k, settings.on_top_seeds)
        below = [
            found
            for found, method in zip(self.fitted, self.methods, strict=True)
            if method.linear and method.family in ("simple", "trained")
        ]
        with (
            self.whole.part("alphanet on other heads") as progress,
            progress("training", len(below)) as advance,
        ):
            for one in below:
                work = partial(alphanet.on_top, one, self.data, self.neighbours, how)
                fitted, seconds = _timed(work)
                self.offer(Offered.of(self.data, [fitted]), "on top", seconds)
                advance(1)

    def by_k(self) -> dict[str, BySeeds]:
        """Figures of single trials by K (the paper's Figure A1)."""
        settings = self.settings
        found = {}
        for k in _ks(settings, self.data):
            how = settings.of_alphanet((settings.one_rho,), k, settings.seeds)
            with self.whole.part(f"alphanet with k {k}") as progress:
                trials = self._trials(how, progress)
            found[str(k)] = self._seed_figures(trials)[settings.one_rho]
        return found

    def _trials(self, settings: FitSettings, progress: Progress) -> Trials:
        data = self.data
        given = Given(data.train, data.val, data.head, data.classes, self.neighbours)
        return train_trials(given, settings, progress=progress)

    def _seed_figures(self, trials: Trials) -> dict[float, BySeeds]:
        """Figures of the single trials by rho, as the paper reports them."""
        figures = trial_accuracies(trials, self.data.head, self.data.classes, self.test)
        rhos = [record.rho for record in trials.records]
        return {
            rho: over_seeds([one for one, own in zip(figures, rhos, strict=True) if own == rho])
            for rho in dict.fromkeys(rhos)
        }


def _timed(work: Callable[[], Result]) -> tuple[Result, float]:
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def _curve(data: FitData, test: Features) -> dict[str, list[float]]:
    """Few and overall accuracy of the base head along its few-bias, on the samples compared."""
    contest = Contest.join(
        [
            Contest.of(
                data.head.logits(chunk), test.labels[start : start + len(chunk)], data.classes.few
            )
            for start, chunk in test.chunks()
        ]
    )
    curve = trade_off(contest, data.classes)
    wanted = np.unique(np.linspace(0, len(curve.offsets) - 1, CURVE_POINTS).astype(int))
    return {name: curve.accuracy[name][wanted].tolist() for name in ("few", "overall")}
