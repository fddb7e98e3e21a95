"""One table a data set: the base model, AlphaNet and its controls, the other methods.

Each draw of validation and test (`problems.py`) chooses anew. AlphaNet keeps of each trial the
epoch that is best on validation, as published; its rows are single trials, mean and standard
deviation over draws and seeds, and the mean of the seeds' rows. All other methods choose what they
have to choose on validation, within 1 point of overall accuracy there; what cannot keep that is
shown all the same, as it comes nearest.

Nothing that is trained looks at validation but to choose: an epoch, a learning rate. So trials and
heads are trained once, as each draw would train them from the same seeds, and chosen in each draw.

The scripts of the data sets call `main`, which makes what is not there yet.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from arguments import add_data, add_json, keep, parser_of, positive
from problems import Problem
from spread import with_spread

from alphafix.alphanet.combine import Combination, combinations
from alphafix.alphanet.fit import train_trials
from alphafix.alphanet.given import Given
from alphafix.alphanet.neighbors import nearest_neighbours
from alphafix.alphanet.pool import WIDER_POOL
from alphafix.alphanet.settings import FitSettings
from alphafix.alphanet.sweep import run_sweep
from alphafix.alphanet.task import SweepTask
from alphafix.alphanet.trial import Epoch
from alphafix.features.features import Features
from alphafix.metrics.accuracy import COLUMNS, tier_accuracy
from alphafix.metrics.limits import Limits
from alphafix.progress import silent
from alphafix.rivals import RIVALS
from alphafix.rivals import alphanet as alphanet_rows
from alphafix.rivals.budget import MOST_AT_ONCE, Budget
from alphafix.rivals.data import FitData, Offered, Trainings, choose_method, predictions
from alphafix.threads import Workers
from alphafix.values.arrays import BoolArray, FloatArray, IntArray
from alphafix.values.classes import ClassTable
from alphafix.values.head import Head
from alphafix.values.trials import Trials

RHOS = (0.1, 0.25, 0.5, 1.0, 2.0)
LIMITS = Limits(max_overall_drop=1.0, confidence=0.5)
AUTO = "auto"

# Name of a row -> how it is trained. Those that auto chooses from come first.
KINDS: Mapping[str, FitSettings] = {
    "alphanet": FitSettings(device="cpu"),
    "alphanet-lda": FitSettings(device="cpu", pool=WIDER_POOL),
    "alphanet, paper": FitSettings(device="cpu", preset="paper"),
    "alphanet, official": FitSettings(device="cpu", preset="official"),
    "random neighbours": FitSettings(device="cpu", metric="random"),
}
FOR_AUTO = ("alphanet", "alphanet-lda")

QUICK = tuple(name for name, rival in RIVALS.items() if not rival.trains)
TRAINED = tuple(name for name, rival in RIVALS.items() if rival.trains)

Figures = dict[str, list[list[float]]]
"""Name of a row -> few, medium, many and overall in percent, for each draw (and seed)."""


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        draws: Draws of validation and test.
        seeds: Trials of AlphaNet for each rho.
        rhos: AlphaNet's rho.
        trained: Whether the other methods that train by gradients take part.
    """

    draws: int = 20
    seeds: int = 10
    rhos: tuple[float, ...] = RHOS
    trained: bool = True


@dataclass(frozen=True)
class Grown:
    """AlphaNet's trials with all epochs that validation may choose.

    Attributes:
        trials: T trials; which epoch they are from does not matter.
        epochs: Numbers of the E epochs.
        alphas: float32 of shape T x E x F x K; with own rows, their coefficients first.
        biases: float32 of shape T x E x F.
        right: Whether each sample of the pool is predicted correctly, bool of shape T x E x N.
    """

    trials: Trials
    epochs: IntArray
    alphas: FloatArray
    biases: FloatArray
    right: BoolArray

    @classmethod
    def of(cls, problem: Problem, settings: FitSettings, k: int = 5) -> Grown:
        """Train."""
        near = nearest_neighbours(problem.train.class_means(), problem.classes, k=k)
        given = Given(problem.train, problem.pool, problem.head, problem.classes, near)
        task = SweepTask.of(given, settings)
        seen: dict[int, list[Epoch]] = {place: [] for place in range(len(task.trials))}

        def watch(one: Epoch) -> None:
            copied = replace(one, alphas=one.alphas.clone(), biases=one.biases.clone())
            seen[one.trial].append(copied)

        trials = run_sweep(task, task.reduced(silent), None, silent, watch)
        arrays = (
            np.stack([[getattr(one, name).numpy() for one in mine] for mine in seen.values()])
            for name in ("alphas", "biases", "correct")
        )
        return cls(trials, np.array([one.epoch for one in seen[0]]), *arrays)

    def chosen(self, val: IntArray) -> tuple[Trials, BoolArray]:
        """The epoch of each trial that is best on some samples of the pool, the first of equals.

        Returns:
            The trials, and what each has right in the pool, T x N.
        """
        best = self.right[:, :, val].sum(axis=2).argmax(axis=1)
        every = np.arange(len(best))
        alphas, trials = self.alphas[every, best], self.trials
        if trials.own is not None:
            own = replace(trials.own, alphas=np.ascontiguousarray(alphas[:, :, 0]))
            trials, alphas = replace(trials, own=own), alphas[:, :, 1:]
        records = tuple(
            replace(record, epoch=int(self.epochs[place]))
            for record, place in zip(trials.records, best, strict=True)
        )
        found = replace(
            trials,
            records=records,
            alphas=np.ascontiguousarray(alphas),
            biases=self.biases[every, best],
        )
        return found, self.right[every, best]


Rows = list[dict[str, Any]]


def measure(problem: Problem, effort: Effort) -> Iterator[Rows]:
    """All rows so far: mean and deviation of few, medium, many and overall.

    After each draw and then, as training takes longest, after each method that trains by gradients;
    of these as many are trained side by side as there are cores.
    """
    found: Figures = {}
    started = time.perf_counter()
    grown = {}
    for name, settings in KINDS.items():
        wanted = replace(settings, rhos=effort.rhos, seeds=tuple(range(effort.seeds)))
        grown[name] = Grown.of(problem, wanted)
        tell(problem, name, started)
    draws = [_Draw.of(problem, *both, found) for both in problem.splits(effort.draws)]
    for place, drawn in enumerate(draws):
        drawn.add("base", problem.head.logits)
        offers = {name: drawn.alphanet(name, one) for name, one in grown.items()}
        quick = [drawn.rival(name) for name in QUICK]
        linear = [one for one in quick if RIVALS[one.method].linear]
        drawn.choose(AUTO, [offers[name] for name in FOR_AUTO] + linear)
        tell(problem, f"draw {place}", started)
        yield summaries(problem, found)
    names = TRAINED if effort.trained else ()
    done: Figures = {}
    with Workers(MOST_AT_ONCE, Budget().stop) as workers:
        longest_first = sorted(names, key=lambda name: -RIVALS[name].cost)
        jobs = {workers.do(partial(trained_method, name, draws)): name for name in longest_first}
        for job in as_completed(jobs):
            done[jobs[job]] = job.result()
            tell(problem, jobs[job], started)
            in_order = {name: done[name] for name in names if name in done}
            yield summaries(problem, found | in_order)


def trained_method(name: str, draws: Sequence[_Draw]) -> list[list[float]]:
    """Few, medium, many and overall of a method that trains by gradients, for each draw."""
    found: Figures = {}
    trainings = Trainings()
    for drawn in draws:
        data = replace(drawn.data, trainings=trainings)
        replace(drawn, data=data, found=found).rival(name)
    return found[name]


def summaries(problem: Problem, found: Figures) -> Rows:
    """All rows."""
    return [summary(problem.name, name, rows) for name, rows in found.items()]


def tell(problem: Problem, what: str, started: float) -> None:
    """Say how far it is."""
    spent = time.perf_counter() - started
    print(f"{problem.name}: {what}, {spent:.0f} s", file=sys.stderr, flush=True)


def summary(problem: str, name: str, rows: list[list[float]]) -> dict[str, Any]:
    """One row."""
    mean, sd = (
        dict(zip(COLUMNS, of(rows, axis=0).tolist(), strict=True)) for of in (np.mean, np.std)
    )
    return {"problem": problem, "method": name, "measured": len(rows), "mean": mean, "sd": sd}


@dataclass(frozen=True)
class _Draw:
    """One draw, as places in the pool and as features, and where its figures go."""

    problem: Problem
    val: IntArray
    test: IntArray
    data: FitData
    features: Features
    found: Figures

    @classmethod
    def of(cls, problem: Problem, val: IntArray, test: IntArray, found: Figures) -> _Draw:
        data = FitData(problem.train, problem.part(val), problem.head, problem.classes, LIMITS)
        return cls(problem, val, test, data, problem.part(test), found)

    def add(self, name: str, scorer: Callable[[FloatArray], FloatArray]) -> None:
        said = predictions(scorer, self.features.array())
        self.record(name, said == self.features.labels)

    def record(self, name: str, right: BoolArray) -> None:
        accuracy = tier_accuracy(right, self.features.labels, self.problem.classes)
        known = (accuracy[name] for name in COLUMNS)
        row = [np.nan if value is None else value for value in known]
        self.found.setdefault(name, []).append(row)

    def alphanet(self, name: str, grown: Grown) -> Offered:
        """AlphaNet's rows of one kind; as a method that has an offset too, to choose among."""
        trials, right = grown.chosen(self.val)
        for record, mine in zip(trials.records, right, strict=True):
            self.record(f"{name}, rho {record.rho:g}, one trial", mine[self.test])
        for one in combinations(trials, ensemble="mean"):
            head = corrected(self.problem.head, self.problem.classes, one)
            self.add(f"{name}, rho {one.rho:g}, mean of rows", head.logits)
        return alphanet_rows.offer(self.data, trials)

    def rival(self, name: str) -> Offered:
        """Another method."""
        offer = RIVALS[name].offer(self.data)
        self.choose(name, [offer])
        return offer

    def choose(self, name: str, offers: list[Offered]) -> None:
        """What validation chooses; if nothing, what is nearest to keeping the limit there."""
        outcome = choose_method(self.data, offers)
        self.add(name, (outcome.fitted or outcome.safest).logits)


def trained(problem: Problem, val: Features | None, settings: FitSettings, k: int = 5) -> Trials:
    """AlphaNet's trials."""
    near = nearest_neighbours(problem.train.class_means(), problem.classes, k=k)
    return train_trials(Given(problem.train, val, problem.head, problem.classes, near), settings)


def corrected(head: Head, classes: ClassTable, one: Combination) -> Head:
    """The head with a combination's rows."""
    return head.with_rows(classes.few, one.rows(head.weight, classes.few), one.biases)


def table(rows: Rows) -> Iterator[str]:
    """Markdown."""
    yield "| method | " + " | ".join(COLUMNS) + " | measured |"
    yield "|---|" + "---:|" * (len(COLUMNS) + 1)
    for row in rows:
        mean, sd = row["mean"], row["sd"]
        cells = (with_spread(f"{mean[name]:.1f}", sd[name], row["measured"]) for name in COLUMNS)
        yield f"| {row['method']} | {' | '.join(cells)} | {row['measured']} |"


def main(name: str, stored: Callable[..., Problem], *, tunable: bool = False) -> None:
    """Make what is not there yet, measure and print.

    Args:
        name: The data set.
        stored: Gives it, of the folder where all data sets are kept.
        tunable: Whether ``stored`` takes ``tuned`` too, for a network that is trained as a whole.
    """
    parser = parser_of(f"{name}: evidence on a long tail.")
    add_data(parser)
    if tunable:
        parser.add_argument("--tuned", action="store_true", help="train the whole network")
    parser.add_argument(
        "--draws",
        type=positive,
        default=Effort.draws,
        help="draws of validation and test [%(default)s]",
    )
    parser.add_argument(
        "--seeds",
        type=positive,
        default=Effort.seeds,
        help="trials of AlphaNet for each rho [%(default)s]",
    )
    parser.add_argument(
        "--untrained", action="store_true", help="leave out other methods that train by gradients"
    )
    add_json(parser)
    given = parser.parse_args()
    problem = stored(given.data, **({"tuned": given.tuned} if tunable else {}))
    effort = Effort(given.draws, given.seeds, trained=not given.untrained)
    rows: Rows = []
    for rows in measure(problem, effort):
        keep(rows, given.json)
    print("\n".join(table(rows)))
