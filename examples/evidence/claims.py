"""What AlphaNet's paper says of its own effect, held against a data set.

    python examples/evidence/claims.py [--problems emoji,icons] [--json FILE]

All of the pool is test here, and no validation: trials end after their last epoch. Each figure is
of several seeds. For each claim the figures that decide it, with a 95% interval by bootstrap over
few-split classes, or the standard deviation over seeds:

* Figure 1a: of the errors on few-split classes, the share that goes to one of the 5 nearest base
  classes, beside the share of base predictions that 5 random base classes would get, and 5 of the
  most frequent.
* Figures 1c and 4: correlation, over few-split classes, of the mean distance to the neighbours with
  the base model's accuracy, and with AlphaNet's change of it.
* Figure 3 and Table A1: change by rho, for nearest and for random neighbours; Figure A1: by K.
* Figure 6: accuracy where a prediction within a group of classes counts as right (emoji: Unicode's
  category; elsewhere: groups of 5 by agglomeration of the class means).
* Figure A2: mean and spread of alpha by the neighbour's rank.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from arguments import add_json, keep, parser_of, positive, run_script
from long_tail import corrected, trained
from problems import Problem, add_problems, problems_of
from sklearn.cluster import AgglomerativeClustering

from alphafix.alphanet.combine import combinations
from alphafix.alphanet.neighbors import nearest_neighbours
from alphafix.alphanet.settings import FitSettings
from alphafix.values.arrays import FloatArray64, IntArray
from alphafix.values.head import Head

K = 5
RHOS = (0.1, 0.25, 0.5, 1.0, 2.0)
KS = (2, 3, 5, 10)
DRAWS = 2000

Row = Mapping[str, Any]


def heads(problem: Problem, settings: FitSettings, k: int = K) -> list[Head]:
    """The corrected heads of single trials."""
    trials = trained(problem, None, settings, k)
    return [
        corrected(problem.head, problem.classes, one)
        for one in combinations(trials, ensemble="single")
    ]


def said_by(head: Head, problem: Problem) -> IntArray:
    """Predictions on the pool."""
    return head.predict(problem.pool.array())


def by_class(right: FloatArray64, problem: Problem) -> FloatArray64:
    """Mean over the samples of each few-split class, in percent."""
    labels = problem.pool.labels
    return np.array([100 * right[labels == label].mean() for label in problem.classes.few])


def interval(values: Sequence[FloatArray64], statistic: str) -> tuple[float, float, float]:
    """Mean or correlation over classes, with its 95% bootstrap interval."""

    def of(rows: Sequence[FloatArray64]) -> float:
        return float(rows[0].mean() if statistic == "mean" else np.corrcoef(rows[0], rows[1])[0, 1])

    rng = np.random.default_rng(0)
    places = rng.integers(len(values[0]), size=(DRAWS, len(values[0])))
    # Drawn classes that are all alike have no correlation; such draws do not count.
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = np.array([of([one[place] for one in values]) for place in places])
        value = of(values)
    known = drawn[~np.isnan(drawn)]
    low, high = np.percentile(known, (2.5, 97.5)) if len(known) else (np.nan, np.nan)
    return value, float(low), float(high)


def errors(problem: Problem) -> Iterator[Row]:
    """Figure 1a."""
    classes, labels, said = problem.classes, problem.pool.labels, said_by(problem.head, problem)
    near = nearest_neighbours(problem.train.class_means(), classes, k=K)
    frequent = classes.base[np.argsort(-classes.counts[classes.base])[:K]]
    wrong = said != labels
    shares: dict[str, list[float]] = {
        "nearest": [],
        "most frequent": [],
        "random": [],
        "few-split": [],
    }
    for place, label in enumerate(classes.few):
        mine = said[(labels == label) & wrong]
        if not len(mine):
            continue
        to_base = np.isin(mine, classes.base)
        shares["nearest"].append(np.isin(mine, near.ids[place]).mean())
        shares["most frequent"].append(np.isin(mine, frequent).mean())
        shares["random"].append(to_base.mean() * K / len(classes.base))
        shares["few-split"].append(1 - to_base.mean())
    for name, values in shares.items():
        yield row(problem, "1a", f"errors to {name} (%)", [100 * np.array(values)])


def distances(problem: Problem, after: Sequence[Head]) -> Iterator[Row]:
    """Figures 1c, 4 and 5a."""
    near = nearest_neighbours(problem.train.class_means(), problem.classes, k=K)
    far = near.distances.mean(axis=1).astype(np.float64)
    labels = problem.pool.labels
    right = said_by(problem.head, problem) == labels
    before = by_class(right, problem)
    now = by_class(np.mean([said_by(head, problem) == labels for head in after], axis=0), problem)
    yield row(problem, "1c", "correlation of base accuracy with distance", [before, far], "r")
    yield row(problem, "4", "correlation of change with distance", [now - before, far], "r")
    yield row(problem, "4", "correlation of change with base accuracy", [now - before, before], "r")
    yield row(problem, "4", "change of few-split classes", [now - before])


def changes(
    problem: Problem,
    found: Mapping[float, list[Head]] | Mapping[int, list[Head]],
    what: str,
    claim: str = "3",
) -> Iterator[Row]:
    """Figure 3 or Table A1: change of few, base and overall, mean and deviation over seeds."""
    labels = problem.pool.labels
    few = np.isin(labels, problem.classes.few)
    before = said_by(problem.head, problem) == labels
    for setting, mine in found.items():
        gains = []
        for head in mine:
            change = 100.0 * (said_by(head, problem) == labels) - 100.0 * before
            gains.append((change[few].mean(), change[~few].mean(), change.mean()))
        for name, values in zip(("few", "base", "overall"), np.transpose(gains), strict=True):
            yield {
                "problem": problem.name,
                "claim": claim,
                "what": f"{what} {setting:g}: {name}",
                **mean_of(values),
            }


def mean_of(values: FloatArray64) -> Row:
    """A mean with its deviation, which one value has not."""
    spread = {"sd": float(values.std())} if len(values) > 1 else {}
    return {"value": float(values.mean()), **spread}


def groups_of(problem: Problem, names: Mapping[str, str] | None) -> IntArray:
    """A group for each class: by name or, without names, by agglomeration of the means."""
    if names is not None:
        groups = [names[name] for name in problem.classes.names]
        return np.unique(groups, return_inverse=True)[1]
    clusters = AgglomerativeClustering(len(problem.classes) // K)
    return np.asarray(clusters.fit_predict(problem.train.class_means()), dtype=np.int64)


def grouped(problem: Problem, after: Sequence[Head], groups: IntArray) -> Iterator[Row]:
    """Figure 6: the change counts less where groups count."""
    labels = problem.pool.labels
    few = np.isin(labels, problem.classes.few)
    said = {"base model": [problem.head], "AlphaNet": after}
    for name, mine in said.items():
        for what, key in (("classes", np.arange(len(groups))), ("groups", groups)):
            right = np.mean([key[said_by(head, problem)] == key[labels] for head in mine], axis=0)
            for tier, inside in (("few", few), ("overall", np.ones_like(few))):
                yield {
                    "problem": problem.name,
                    "claim": "6",
                    "what": f"{name}, {what}: {tier} (%)",
                    "value": float(100 * right[inside].mean()),
                }


def alphas(problem: Problem, settings: FitSettings) -> Iterator[Row]:
    """Figure A2: alpha by rank of the neighbour, over classes and trials."""
    found = trained(problem, None, settings).alphas
    for rank in range(found.shape[2]):
        values = found[:, :, rank].ravel()
        yield {
            "problem": problem.name,
            "claim": "A2",
            "what": f"alpha of neighbour {rank + 1}",
            **mean_of(values.astype(np.float64)),
            "negative": float((values < 0).mean()),
            "magnitude": float(np.abs(values).mean()),
        }


def row(
    problem: Problem, claim: str, what: str, values: Sequence[FloatArray64], statistic: str = "mean"
) -> Row:
    """A figure with its interval."""
    value, low, high = interval(values, statistic)
    return {
        "problem": problem.name,
        "claim": claim,
        "what": what,
        "value": value,
        "interval": [low, high],
    }


def measure(
    problem: Problem,
    seeds: int,
    names: Mapping[str, str] | None = None,
    rhos: Sequence[float] = RHOS,
) -> Iterator[Row]:
    """All claims on a data set.

    Args:
        problem: The data set.
        seeds: Trials a setting.
        names: Class -> group, for Figure 6; None for groups of the class means.
        rhos: For Figure 3, with 0.5 among them.
    """
    one = FitSettings(rhos=(0.5,), seeds=tuple(range(seeds)), device="cpu")
    random = replace(one, metric="random")
    found = {rho: heads(problem, replace(one, rhos=(rho,))) for rho in rhos}
    yield from errors(problem)
    yield from distances(problem, found[0.5])
    yield from changes(problem, found, "rho")
    by_rho = {rho: heads(problem, replace(random, rhos=(rho,))) for rho in rhos}
    yield from changes(problem, by_rho, "random neighbours, rho")
    by_k = {k: heads(problem, one, k) for k in KS if k < len(problem.classes.base)}
    yield from changes(problem, by_k, "K", claim="A1")
    yield from grouped(problem, found[0.5], groups_of(problem, names))
    yield from alphas(problem, one)


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Markdown."""
    yield "| data | claim | what | value |"
    yield "|---|---|---|---:|"
    for one in rows:
        yield f"| {one['problem']} | {one['claim']} | {one['what']} | {told(one)} |"


def by_claim(found: Mapping[str, Sequence[Row]]) -> Iterator[str]:
    """Markdown with a column a data set; intervals are of 95%, ± is over trials."""
    yield f"| claim | figure | {' | '.join(found)} |"
    yield "|---|---|" + "---:|" * len(found)
    known = {
        name: {(one["claim"], one["what"]): one for one in rows} for name, rows in found.items()
    }
    for claim, what in dict.fromkeys(key for rows in known.values() for key in rows):
        cells = [
            told(rows[claim, what]) if (claim, what) in rows else "" for rows in known.values()
        ]
        yield f"| {claim} | {what} | {' | '.join(cells)} |"


def told(one: Row) -> str:
    """A figure with its interval or deviation."""
    said = f"{one['value']:.2f}"
    if "interval" in one:
        low, high = one["interval"]
        return f"{said} ({low:.2f} to {high:.2f})"
    return f"{said} ± {one['sd']:.2f}" if "sd" in one else said


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    add_problems(parser, ["emoji", "icons"])
    parser.add_argument(
        "--seeds", type=positive, default=5, help="trials of AlphaNet a setting [%(default)s]"
    )
    add_json(parser)
    given = parser.parse_args()
    rows: list[Row] = []
    for name, problem in problems_of(given).items():
        names = None
        if name.startswith("emoji"):
            from emoji import categories

            names = categories(given.data)
        rows += measure(problem, given.seeds, names)
        keep(rows, given.json)
    print("\n".join(table(rows)))


if __name__ == "__main__":
    run_script(main)
