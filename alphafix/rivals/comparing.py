"""AlphaNet, its control and all rivals, fitted on the same features and measured side by side."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from alphafix.alphanet.fit import train_trials
from alphafix.alphanet.given import Given
from alphafix.alphanet.measure import trial_accuracies
from alphafix.alphanet.pool import WIDER_POOL
from alphafix.alphanet.settings import FitSettings
from alphafix.errors import InputError, option
from alphafix.features.features import Features
from alphafix.features.store import validation_from
from alphafix.metrics.bootstrap import Resampling
from alphafix.metrics.comparison import BASE, BySeeds, Comparison, Method, over_seeds
from alphafix.metrics.limits import DEFAULT_LIMITS, Limits
from alphafix.metrics.predictions import predict
from alphafix.metrics.trade_off import Contest, trade_off
from alphafix.metrics.verdict import CommonDraws, verdict
from alphafix.progress import Progress, Whole, silent
from alphafix.rivals import COMPARED, RIVALS, Rival, alphanet
from alphafix.rivals.budget import MOST_AT_ONCE, Budget, OutOfTime
from alphafix.rivals.data import FitData, Fitted, Offered, choose, choose_method
from alphafix.rivals.kept import FinishedMethods, offer
from alphafix.rivals.steering import best_first, choice_name, own_name, steered
from alphafix.threads import Workers
from alphafix.values.correction import Correction
from alphafix.values.neighbors import Neighbours
from alphafix.values.trials import Trials

Result = TypeVar("Result")

# Points of the few-bias curve that are kept for the picture.
CURVE_POINTS = 200

# Hybrids of AlphaNet and another method that are trained together, with two trials each. Where the
# networks are small a batch takes as many; else it takes some of them after the others.
ON_TOP_TOGETHER = 10

# What measuring takes in times of one trial of AlphaNet, and a trial alone, which trains no
# others with it: for the bar.
MEASURING, ALONE = 4.0, 1.2


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
        seconds: What trained methods, AlphaNet on top of others and the figures by K may take
            together; those for which it is not enough are left out. None for no limit.

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
    seconds: float | None = None

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
    finished: FinishedMethods | None = None,
    progress: Progress = silent,
) -> Comparison:
    """Fit every method on the same features and measure all on the same samples.

    Closed forms come first, then AlphaNet, then what is trained, the cheapest first; two or more
    at once, in as many threads as PyTorch has.

    Args:
        given: Training and validation features, the base head, the class table, and AlphaNet's
            neighbours, whose number is the K of the table.
        test: Features and labels to compare on.
        settings: What is compared.
        on: What ``test`` is called.
        shipped: The correction that is to be patched into the model, which the verdict judges;
            without one, AlphaNet's setting that validation chooses.
        finished: Where each trained method is kept as soon as it is done, so that an interrupted
            comparison continues.
        progress: Told of long work.

    Raises:
        InputError: If the values do not fit together.
    """
    given.check()
    replace(given, val=test).check()
    if given.val is None:
        raise InputError(
            "comparing needs validation features, on which settings are chosen",
            todo=validation_from(given.train),
        )
    budget = Budget(settings.seconds)
    data = FitData(
        given.train, given.val, given.head, given.classes, settings.limits, settings.seed, budget
    )
    names = settings.methods or COMPARED
    costs = _costs(settings, names, data, given.neighbours)
    with Whole(progress, "compare", costs, _told_as(settings, names)) as whole:
        fitting = _Fitting(data, test, given.neighbours, settings, finished, whole)
        with Workers(MOST_AT_ONCE, budget.stop) as workers:
            made = fitting.all(names, workers)
        work = _Comparing(data)
        work.add(Fitted(BASE, data.head.logits, {}, data.base), "base", 0.0)
        for one in made.rows:
            work.take(one)
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
        by_k=made.by_k,
        steered=steered(
            test,
            list(zip(work.methods, work.fitted, strict=True)),
            best_first(rows, roles),
            options=fitting.options,
            few=data.classes.few,
        ),
        left_out=tuple(made.left_out),
    )


def _costs(
    settings: CompareSettings, names: Sequence[str], data: FitData, neighbours: Neighbours
) -> dict[str, float]:
    """What each part takes, in times of one trial of AlphaNet."""
    seeds = float(settings.seeds)
    return {
        **{name: RIVALS[name].cost for name in names},
        "alphanet": len(settings.rhos) * seeds,
        alphanet.WITH_OWN: seeds,
        RANDOM: len(settings.rhos) * seeds,
        **{_with_k(k): seeds for k in _other_ks(settings, data, neighbours)},
        **{
            _on_top(name): ALONE * settings.on_top_seeds
            for name in names
            if RIVALS[name].linear and settings.on_top_seeds
        },
        "measuring": MEASURING,
    }


def _told_as(settings: CompareSettings, names: Sequence[str]) -> dict[str, str]:
    """Parts that are no methods of their own, and what they are told as together."""
    return {
        **{_with_k(k): "alphanet with other k" for k in settings.ks},
        **{_on_top(name): "alphanet on other heads" for name in names},
    }


RANDOM = "alphanet random"


def _with_k(k: int) -> str:
    return f"alphanet with k {k}"


def _on_top(name: str) -> str:
    return f"alphanet on {name}"


def _ks(settings: CompareSettings, data: FitData) -> list[int]:
    return sorted({k for k in settings.ks if k < len(data.classes.base)})


def _other_ks(settings: CompareSettings, data: FitData, neighbours: Neighbours) -> list[int]:
    """Those values of K of which the trials are not in AlphaNet's sweep over rho."""
    swept = neighbours.k if settings.one_rho in settings.rhos else None
    return [k for k in _ks(settings, data) if k != swept]


@dataclass(frozen=True)
class _Made:
    """A method that will be a row.

    Attributes:
        fitted: With the setting that validation chooses.
        offer: All of its settings, where it is one of those to choose from.
        family: See `Method`.
        seconds: Time that fitting took.
        seeds: Figures of its single seeds.
        within: Whether it keeps the limits.
    """

    fitted: Fitted
    offer: Offered | None
    family: str
    seconds: float
    seeds: BySeeds | None
    within: bool


@dataclass
class _All:
    """Everything that was fitted, in the order of the table.

    Attributes:
        rows: The methods.
        by_k: Figures of single trials by K.
        left_out: For what the time was up.
    """

    rows: list[_Made] = field(default_factory=list)
    by_k: dict[str, BySeeds] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Fitting:
    """The parts of a comparison, each of which can be done by itself."""

    data: FitData
    test: Features
    neighbours: Neighbours
    settings: CompareSettings
    finished: FinishedMethods | None
    whole: Whole

    def all(self, names: Sequence[str], workers: Workers) -> _All:
        """Do all parts."""
        settings, data = self.settings, self.data
        # What all parts read is made once, before they do.
        _ = data.features, data.val_features, data.means, data.counts, data.base_right
        by_cost = sorted(names, key=lambda name: RIVALS[name].cost)
        closed = [name for name in by_cost if not RIVALS[name].trains]
        rivals = {name: workers.do(partial(self.rival, RIVALS[name])) for name in closed}
        sweeps = [workers.do(partial(self.sweep, *one)) for one in self._sweeps()]
        data.budget.begin()
        for name in by_cost:
            if RIVALS[name].trains:
                rivals[name] = workers.do(partial(self.rival, RIVALS[name]))
        others = _other_ks(settings, data, self.neighbours)
        by_k = {k: workers.do(partial(self.with_k, k)) for k in others}
        out = _All()
        own = [made for sweep in sweeps for made in sweep.result()]
        out.rows += [one for one, _ in own] + [one for _, one in own if one is not None]
        done: dict[str, _Made] = {}
        groups: list[tuple[list[str], Future[list[_Made]]]] = []
        for group in self._groups([*closed, *(name for name in by_cost if name not in closed)]):
            for name in group:
                with _leaving_out(out.left_out, name):
                    done[name] = rivals[name].result()
            below = [name for name in group if name in done and RIVALS[name].linear]
            if below and settings.on_top_seeds:
                work = partial(self.on_top, [(name, done[name].fitted) for name in below])
                groups.append((below, workers.do(work)))
        out.rows += [done[name] for name in names if name in done]
        on_top: dict[str, _Made] = {}
        for below, one in groups:
            try:
                on_top |= dict(zip(below, one.result(), strict=True))
            except OutOfTime:
                out.left_out += [_on_top(name) for name in below]
        out.rows += [on_top[name] for name in names if name in on_top]
        swept = {one.fitted.settings["rho"]: one.seeds for one, _ in sweeps[0].result()}
        for k in _ks(settings, data):
            same = None if k in by_k else swept[settings.one_rho]
            with _leaving_out(out.left_out, _with_k(k)):
                out.by_k[str(k)] = by_k[k].result() if same is None else same
        return out

    def made(
        self, offered: Offered, seconds: float, family: str, seeds: BySeeds | None = None
    ) -> _Made:
        """A method with the setting that validation chooses."""
        outcome = choose(self.data, [offered])
        found = outcome.fitted or outcome.safest
        own = None if found.correction is None else offered
        return _Made(found, own, family, seconds, seeds, outcome.choice.kept)

    def rival(self, rival: Rival) -> _Made:
        """A rival, or what is kept of it."""
        family = "trained" if rival.trains else "simple"
        with self.whole.part(rival.name):
            return self.made(*offer(rival, self.data, self.finished), family)

    def _sweeps(self) -> list[tuple[str, str, FitSettings]]:
        """AlphaNet over rho, with a wider pool, and with random neighbours."""
        settings, k = self.settings, self.neighbours.k
        one = settings.one_rho if settings.one_rho in settings.rhos else settings.rhos[0]
        wider = replace(settings.of_alphanet((one,), k, settings.seeds), pool=WIDER_POOL)
        random = settings.of_alphanet(settings.rhos, k, settings.seeds, "random")
        return [
            ("alphanet", "alphanet", settings.of_alphanet(settings.rhos, k, settings.seeds)),
            (alphanet.WITH_OWN, "alphanet", wider),
            (RANDOM, "random", random),
        ]

    def sweep(self, name: str, family: str, how: FitSettings) -> list[tuple[_Made, _Made | None]]:
        """Each rho of AlphaNet, and where it is no control the same with an offset."""
        with self.whole.part(name) as progress:
            trials, seconds = _timed(partial(self._trials, how, progress, name))
            seconds /= len(how.rhos)
            by_rho = self._seed_figures(trials)
            found: list[tuple[_Made, _Made | None]] = []
            for one in alphanet.fitted(name, self.data, trials):
                offered = Offered.of(self.data, [one])
                plain = self.made(offered, seconds, family, by_rho[one.settings["rho"]])
                with_offset = None
                if family == "alphanet":
                    calibrated = alphanet.calibrated(plain.fitted, self.data)
                    with_offset = self.made(calibrated, seconds, "calibrated")
                found.append((plain, with_offset))
            return found

    def _groups(self, names: Sequence[str]) -> list[list[str]]:
        """Methods whose hybrids with AlphaNet train together; those of no linear head between."""
        groups: list[list[str]] = [[]]
        for name in names:
            if sum(RIVALS[one].linear for one in groups[-1]) == ON_TOP_TOGETHER:
                groups.append([])
            groups[-1].append(name)
        return groups

    def on_top(self, below: Sequence[tuple[str, Fitted]]) -> list[_Made]:
        """AlphaNet on the heads of other linear methods, together."""
        settings, data = self.settings, self.data
        data.budget.tick()
        how = settings.of_alphanet((settings.one_rho,), self.neighbours.k, settings.on_top_seeds)
        keeps = [
            None if self.finished is None else self.finished.trials(_on_top(name), one.settings)
            for name, one in below
        ]
        with contextlib.ExitStack() as parts:
            first, *_ = [parts.enter_context(self.whole.part(_on_top(name))) for name, _ in below]
            work = partial(
                alphanet.on_top,
                [one for _, one in below],
                data,
                self.neighbours,
                how,
                keeps=keeps,
                progress=data.budget.watching(first),
            )
            fitted, seconds = _timed(work)
            return [
                self.made(Offered.of(data, [one]), seconds / len(fitted), "on top")
                for one in fitted
            ]

    def with_k(self, k: int) -> BySeeds:
        """Figures of single trials with K neighbours (the paper's Figure A1)."""
        settings, budget = self.settings, self.data.budget
        budget.tick()
        how = settings.of_alphanet((settings.one_rho,), k, settings.seeds)
        with self.whole.part(_with_k(k)) as progress:
            trials = self._trials(how, budget.watching(progress), _with_k(k))
            return self._seed_figures(trials)[settings.one_rho]

    def options(self, method: Method) -> dict[str, Any] | None:
        """The options of `alphafix train` that make a row again; None where there are none."""
        settings, limits = self.settings, self.settings.limits
        first = {"seed": settings.seed} if settings.seed else {}
        if method.family in ("alphanet", "random"):
            trials = {"rho": method.settings["rho"], "seeds": settings.seeds, **first}
            pool = {"pool": WIDER_POOL} if "pool" in method.settings else {}
            metric = {"metric": "random"} if method.family == "random" else {}
            if not metric and self.neighbours.metric != "euclidean":
                metric = {"metric": "euclidean"}
            return {**trials, **pool, **metric, "device": "cpu"}
        if method.linear and method.family in ("simple", "trained"):
            drop = {"max_overall_drop": limits.max_overall_drop, "confidence": limits.confidence}
            return {"method": method.name, **drop, **first}
        return None

    def _trials(self, settings: FitSettings, progress: Progress, part: str) -> Trials:
        data = self.data
        given = Given(data.train, data.val, data.head, data.classes, self.neighbours)
        keep = None if self.finished is None else self.finished.trials(part)
        return train_trials(given, settings, keep=keep, progress=progress)

    def _seed_figures(self, trials: Trials) -> dict[float, BySeeds]:
        """Figures of the single trials by rho, as the paper reports them."""
        figures = trial_accuracies(trials, self.data.head, self.data.classes, self.test)
        rhos = [record.rho for record in trials.records]
        return {
            rho: over_seeds([one for one, own in zip(figures, rhos, strict=True) if own == rho])
            for rho in dict.fromkeys(rhos)
        }


@contextlib.contextmanager
def _leaving_out(names: list[str], name: str) -> Iterator[None]:
    """Note the name of that for which the time is up."""
    try:
        yield
    except OutOfTime:
        names.append(name)


@dataclass
class _Comparing:
    """The methods of a comparison as they become rows."""

    data: FitData
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

    def take(self, made: _Made) -> None:
        """Take a fitted method as a row, and as one to choose from."""
        self.add(made.fitted, made.family, made.seconds, made.seeds, within=made.within)
        if made.offer is not None:
            self.offers.append((made.family, made.offer))

    def choices(self) -> dict[str, str]:
        """What validation chooses among all methods and their settings at once.

        A choice that is a row already is that one; another setting of a method is a row more.
        How far a setting is held to the limits depends on how many there are to choose from, so
        that of all methods and of the simple ones alone the same may be chosen in two settings.
        """
        roles = {}
        families = {
            "best": (None, {family for family, _ in self.offers} - {"random"}),
            "simple": ("the simple", {"simple"}),
            "alphanet": ("AlphaNet", {"alphanet", "calibrated"}),
        }
        for role, (among, mine) in families.items():
            offers = [offer for family, offer in self.offers if family in mine]
            found = choose_method(self.data, offers).fitted if offers else None
            if found is not None:
                roles[role] = self._row_of(found, among)
        return roles

    def _row_of(self, found: Fitted, among: str | None) -> str:
        for one in self.methods:
            if own_name(one.name) == found.method and one.settings == found.settings:
                return one.name
        name = choice_name(found.method, None)
        if any(one.name == name for one in self.methods):
            name = choice_name(found.method, among)
        self.add(replace(found, method=name), "choice", 0.0)
        return name

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


def _timed(work: Callable[[], Result]) -> tuple[Result, float]:
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def _curve(data: FitData, test: Features) -> dict[str, list[float]]:
    """Few and overall accuracy of the base head along its few-bias, on the samples compared.

    No points if none of the samples is of a few-split class.
    """
    if not np.isin(test.labels, data.classes.few).any():
        return {"few": [], "overall": []}
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
