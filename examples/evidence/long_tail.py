"""One table a data set: the base model, AlphaNet and its controls, the other methods.

Each draw of validation and test (`problems.py`) trains and chooses anew. AlphaNet keeps of each
trial the epoch that is best on validation, as published; its rows are single trials, mean and
standard deviation over draws and seeds, and the mean of the seeds' rows. All other methods choose
what they have to choose on validation, within 1 point of overall accuracy there; what cannot keep
that is shown all the same, as it comes nearest.

The scripts of the data sets call `main`, which makes what is not there yet.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from problems import Problem
from stored import DATA, Recipe

from alphafix.alphanet.combine import Combination, combinations
from alphafix.alphanet.fit import train_trials
from alphafix.alphanet.given import Given
from alphafix.alphanet.neighbors import nearest_neighbours
from alphafix.alphanet.settings import FitSettings, Preset
from alphafix.features.features import Features
from alphafix.metrics.accuracy import COLUMNS, tier_accuracy
from alphafix.metrics.limits import Limits
from alphafix.rivals import RIVALS
from alphafix.rivals import alphanet as alphanet_rows
from alphafix.rivals.data import FitData, Offered, choose, predictions
from alphafix.values.classes import ClassTable
from alphafix.values.head import Head
from alphafix.values.trials import Trials

RHOS = (0.1, 0.25, 0.5, 1.0, 2.0)
LIMITS = Limits(max_overall_drop=1.0, confidence=0.5)
AUTO = "auto"

# Name of a row -> preset, neighbours.
KINDS: Mapping[str, tuple[Preset | None, str]] = {
    "alphanet": (None, "euclidean"),
    "alphanet, paper": ("paper", "euclidean"),
    "alphanet, official": ("official", "euclidean"),
    "random neighbours": (None, "random"),
}

Figures = dict[str, list[list[float]]]
"""Name of a row -> few, medium, many and overall in percent, for each draw (and seed)."""


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        draws: Draws of validation and test.
        alphanet_draws: Draws on which all of AlphaNet's rows are trained; on the others only the
            first kind with ``one_rho``, which "auto" needs.
        trained_draws: Draws on which other methods are fitted that train by gradients.
        seeds: Trials of AlphaNet for each draw and rho.
        rhos: AlphaNet's rho.
        one_rho: The one of them that is trained on every draw.
    """

    draws: int = 20
    alphanet_draws: int = 5
    trained_draws: int = 2
    seeds: int = 10
    rhos: tuple[float, ...] = RHOS
    one_rho: float = 0.5


Rows = list[dict[str, object]]


def measure(problem: Problem, effort: Effort) -> Iterator[Rows]:
    """All rows so far, after each draw: mean and deviation of few, medium, many and overall."""
    found: Figures = {}
    for place, (val, test) in enumerate(problem.draws(effort.draws)):
        started = time.perf_counter()
        drawn = _Draw(problem, val, test, effort, found)
        drawn.add("base", problem.head.logits)
        if place < effort.alphanet_draws:
            # Those rows are to be held against the base model on the same draws.
            drawn.add("base, AlphaNet's draws", problem.head.logits)
            offers = [drawn.alphanet(name, effort.rhos) for name in KINDS]
        else:
            offers = [drawn.alphanet(next(iter(KINDS)), (effort.one_rho,))]
        offers = offers[:1] + drawn.rivals(trained=place < effort.trained_draws)
        drawn.choose(AUTO, offers)
        spent = time.perf_counter() - started
        print(f"{problem.name}: draw {place}, {spent:.0f} s", file=sys.stderr, flush=True)
        yield [summary(problem.name, name, rows) for name, rows in found.items()]


def summary(problem: str, name: str, rows: list[list[float]]) -> dict[str, object]:
    """One row."""
    mean, sd = (
        dict(zip(COLUMNS, of(rows, axis=0).tolist(), strict=True)) for of in (np.mean, np.std)
    )
    return {"problem": problem, "method": name, "measured": len(rows), "mean": mean, "sd": sd}


@dataclass(frozen=True)
class _Draw:
    """One draw, and where its figures go."""

    problem: Problem
    val: Features
    test: Features
    effort: Effort
    found: Figures

    @property
    def data(self) -> FitData:
        problem = self.problem
        return FitData(problem.train, self.val, problem.head, problem.classes, LIMITS)

    def add(self, name: str, scorer: Callable[..., object]) -> None:
        said = predictions(scorer, self.test.array())
        accuracy = tier_accuracy(said == self.test.labels, self.test.labels, self.problem.classes)
        row = [np.nan if accuracy[name] is None else accuracy[name] for name in COLUMNS]
        self.found.setdefault(name, []).append(row)

    def alphanet(self, name: str, rhos: tuple[float, ...]) -> Offered:
        """AlphaNet's rows of one kind; as a method that has an offset too, to choose among."""
        preset, metric = KINDS[name]
        settings = FitSettings(
            rhos=rhos,
            seeds=tuple(range(self.effort.seeds)),
            preset=preset,
            metric=metric,
            device="cpu",
        )
        trials = trained(self.problem, self.val, settings)
        for way, said in (("single", "one trial"), ("mean", "mean of rows")):
            for one in combinations(trials, ensemble=way):
                head = corrected(self.problem.head, self.problem.classes, one)
                self.add(f"{name}, rho {one.rho:g}, {said}", head.logits)
        return alphanet_rows.offer(self.data, trials)

    def rivals(self, *, trained: bool) -> list[Offered]:
        """Every other method; those that are linear and quick are what auto chooses from."""
        offers = []
        for name, rival in RIVALS.items():
            if rival.trains and not trained:
                continue
            offer = rival.offer(self.data)
            self.choose(name, [offer])
            if rival.linear and not rival.trains:
                offers.append(offer)
        return offers

    def choose(self, name: str, offers: list[Offered]) -> None:
        """What validation chooses; if nothing, what is nearest to keeping the limit there."""
        outcome = choose(self.data, offers)
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
        cells = (f"{mean[name]:.1f} ± {sd[name]:.1f}" for name in COLUMNS)
        yield f"| {row['method']} | {' | '.join(cells)} | {row['measured']} |"


def main(recipe: Recipe) -> None:
    """Make what is not there yet, measure and print."""
    parser = argparse.ArgumentParser(description=f"{recipe.name}: evidence on pictures.")
    parser.add_argument("--data", type=Path, default=DATA, help="Where all is kept.")
    parser.add_argument("--tuned", action="store_true", help="Train the whole network.")
    parser.add_argument("--draws", type=int, default=Effort.draws)
    parser.add_argument("--alphanet-draws", type=int, default=Effort.alphanet_draws)
    parser.add_argument("--trained-draws", type=int, default=Effort.trained_draws)
    parser.add_argument("--seeds", type=int, default=Effort.seeds)
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="Keep the figures here, after each draw."
    )
    given = parser.parse_args()
    problem = recipe.stored(given.data, tuned=given.tuned)
    effort = Effort(given.draws, given.alphanet_draws, given.trained_draws, given.seeds)
    rows: Rows = []
    for rows in measure(problem, effort):
        if given.json is not None:
            given.json.write_text(json.dumps(rows, indent=1) + "\n")
    print("\n".join(table(rows)))
