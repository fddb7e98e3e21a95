"""AlphaNet, its control and all rivals, fitted on the same features and measured side by side."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import numpy as np

from alphafix.alphanet.fit import train_trials
from alphafix.alphanet.given import Given
from alphafix.alphanet.measure import trial_accuracies
from alphafix.alphanet.settings import FitSettings
from alphafix.errors import InputError, call, option
from alphafix.features.features import Features
from alphafix.metrics.bootstrap import Resampling
from alphafix.metrics.comparison import BASE, BySeeds, Comparison, Method, over_seeds
from alphafix.metrics.predictions import predict
from alphafix.metrics.trade_off import Contest, trade_off
from alphafix.metrics.verdict import CommonDraws, verdict
from alphafix.progress import Progress, silent
from alphafix.rivals import RIVALS, alphanet
from alphafix.rivals.data import FitData, Fitted
from alphafix.values.neighbors import Neighbours
from alphafix.values.trials import Trials

Result = TypeVar("Result")

# Points of the few-bias curve that are kept for the picture.
CURVE_POINTS = 200


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
        max_overall_drop: Points of overall validation accuracy that a method with a knob may
            spend on the few split.
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
    max_overall_drop: float = 2.0
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
    progress: Progress = silent,
) -> Comparison:
    """Fit every method on the same features and measure all on the same samples.

    Args:
        given: Training and validation features, the base head, the class table, and AlphaNet's
            neighbours, whose number is the K of the table.
        test: Features and labels to compare on.
        settings: What is compared.
        on: What ``test`` is called.
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
        given.train,
        given.val,
        given.head,
        given.classes,
        settings.max_overall_drop,
        settings.seed,
    )
    work = _Comparing(data, test, given.neighbours, settings, progress)
    work.add(Fitted(BASE, data.head.logits, {}, data.rule.base), "base", 0.0)
    work.fit_alphanet()
    names = settings.methods or tuple(RIVALS)
    with progress("fitting methods", len(names)) as advance:
        for rival in map(RIVALS.__getitem__, names):
            found, seconds = _timed(partial(rival.fit, data))
            work.add(found, "trained" if rival.trains else "simple", seconds)
            advance(1)
    if settings.on_top_seeds:
        work.fit_on_top()
    said = predict(test, [found.logits for found in work.fitted], progress=progress)
    correct = np.stack([one.predicted == test.labels for one in said], axis=1)
    resampling = Resampling(settings.draws, settings.seed)
    common = CommonDraws(data.classes, test.labels, work.methods, correct, resampling)
    rows = common.rows(data.max_overall_drop)
    return Comparison(
        classes=data.classes,
        on=on,
        samples=len(test),
        max_overall_drop=data.max_overall_drop,
        rows=rows,
        verdict=verdict(common, rows),
        resampling=resampling,
        curves={"few-bias": _curve(data, test)},
        by_k=work.by_k(),
    )


@dataclass
class _Comparing:
    """The methods of a comparison as they are fitted."""

    data: FitData
    test: Features
    neighbours: Neighbours
    settings: CompareSettings
    progress: Progress
    methods: list[Method] = field(default_factory=list)
    fitted: list[Fitted] = field(default_factory=list)

    def add(self, found: Fitted, family: str, seconds: float, seeds: BySeeds | None = None) -> None:
        linear = family == "base" or found.correction is not None
        self.methods.append(
            Method(
                found.method, family, linear, found.settings, found.val, seeds, round(seconds, 2)
            )
        )
        self.fitted.append(found)

    def fit_alphanet(self) -> None:
        """AlphaNet over rho, with nearest and with random neighbours, and calibrated."""
        settings, k = self.settings, self.neighbours.k
        calibrated: list[tuple[Fitted, float]] = []
        for name, family, metric in (
            ("alphanet", "alphanet", "euclidean"),
            ("alphanet random", "random", "random"),
        ):
            how = settings.of_alphanet(settings.rhos, k, settings.seeds, metric)
            trials, seconds = _timed(partial(self._trials, how))
            seconds /= len(settings.rhos)
            by_rho = self._seed_figures(trials)
            for found in alphanet.fitted(name, self.data, trials):
                self.add(found, family, seconds, by_rho[found.settings["rho"]])
                if family == "alphanet":
                    calibrated.append((alphanet.calibrated(found, self.data), seconds))
        for found, seconds in calibrated:
            self.add(found, "calibrated", seconds)

    def fit_on_top(self) -> None:
        """AlphaNet on the head of every other linear method."""
        settings = self.settings
        how = settings.of_alphanet((settings.one_rho,), self.neighbours.k, settings.on_top_seeds)
        below = [
            found
            for found, method in zip(self.fitted, self.methods, strict=True)
            if method.linear and method.family in ("simple", "trained")
        ]
        with self.progress("AlphaNet on other heads", len(below)) as advance:
            for one in below:
                work = partial(alphanet.on_top, one, self.data, self.neighbours, how)
                fitted, seconds = _timed(work)
                self.add(fitted, "on top", seconds)
                advance(1)

    def by_k(self) -> dict[str, BySeeds]:
        """Figures of single trials by K (the paper's Figure A1)."""
        settings = self.settings
        found = {}
        for k in sorted({k for k in settings.ks if k < len(self.data.classes.base)}):
            trials = self._trials(settings.of_alphanet((settings.one_rho,), k, settings.seeds))
            found[str(k)] = self._seed_figures(trials)[settings.one_rho]
        return found

    def _trials(self, settings: FitSettings) -> Trials:
        data = self.data
        given = Given(data.train, data.val, data.head, data.classes, self.neighbours)
        return train_trials(given, settings, progress=self.progress)

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
