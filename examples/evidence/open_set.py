"""Do corrections cost the recognition of unknown classes? Base classes held out of a data set.

    python examples/evidence/open_set.py [--problems emoji,icons] [--repeats 20] [--json FILE]

In each repeat a tenth of the base classes is unknown: their rows are taken out of the head, their
training samples out of the data, and their samples of the pool are shown with the test samples. The
head's other rows have seen them in training as what they are not, all methods alike; the frozen
features have not. Validation has known classes only, as it does in practice. Methods choose as in
`long_tail.py`; AlphaNet has 3 trials, rho 0.5.

A sample is called unknown by its largest softmax probability: "AUROC" is of that, over all
thresholds, "F" the F-measure at the best threshold for each method, and "error" the mean of both
error rates where 95% of known samples are accepted. Mean and standard deviation over repeats.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from arguments import add_json, keep, parser_of, positive, run_script
from long_tail import LIMITS, trained
from problems import Problem, add_problems, problems_of
from spread import with_spread

from alphafix.alphanet.settings import FitSettings
from alphafix.features.features import Features
from alphafix.metrics.accuracy import tier_accuracy
from alphafix.openset.curve import best_threshold
from alphafix.openset.detection import Ranking
from alphafix.openset.samples import OpenSamples
from alphafix.rivals import RIVALS
from alphafix.rivals.alphanet import fitted
from alphafix.rivals.data import FitData, choose
from alphafix.values.arrays import FloatArray, IntArray
from alphafix.values.classes import ClassTable

METHODS = ("few-bias", "logit-adjustment", "mean-directions", "lda", "lda-few")
COLUMNS = ("few", "overall", "AUROC", "F", "error")
SHARE = 0.1
SETTINGS = FitSettings(seeds=(0, 1, 2), device="cpu")

Scorer = Callable[[FloatArray], FloatArray]
Row = Mapping[str, Any]


def without(problem: Problem, held: IntArray) -> tuple[Problem, FloatArray]:
    """A data set that does not know some classes, and their samples of the pool, U x D."""
    ids = np.setdiff1d(np.arange(len(problem.classes)), held)
    head, table = problem.head, problem.classes
    bias = None if head.bias is None else head.bias[ids]

    def known(samples: Features) -> tuple[Features, IntArray]:
        inside = np.flatnonzero(np.isin(samples.labels, ids))
        labels = np.searchsorted(ids, samples.labels[inside])
        return Features.of(samples.gather(inside), labels, num_classes=len(ids)), inside

    (train, _), (pool, inside) = known(problem.train), known(problem.pool)
    classes = ClassTable(
        tuple(table.names[c] for c in ids.tolist()), table.counts[ids], table.thresholds
    )
    left = replace(
        problem,
        train=train,
        pool=pool,
        head=replace(head, weight=head.weight[ids], bias=bias),
        classes=classes,
        motifs=None if problem.motifs is None else problem.motifs[inside],
    )
    others = np.flatnonzero(np.isin(problem.pool.labels, held))
    return left, problem.pool.gather(others)


def scorers(problem: Problem, val: Features) -> Iterator[tuple[str, Scorer]]:
    """All methods, as validation chooses them."""
    data = FitData(problem.train, val, problem.head, problem.classes, LIMITS)
    yield "base", problem.head.logits
    k = min(5, len(problem.classes.base) - 1)
    (alphanet,) = fitted("alphanet", data, trained(problem, val, SETTINGS, k))
    yield "alphanet, rho 0.5", alphanet.logits
    for name in METHODS:
        outcome = choose(data, [RIVALS[name].offer(data)])
        yield name, (outcome.fitted or outcome.safest).logits


def figures(
    scorer: Scorer, test: Features, unknown: FloatArray, classes: ClassTable
) -> list[float]:
    """`COLUMNS` in percent."""
    logits = scorer(np.concatenate([test.array(), unknown])).astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    confidence = (1 / np.exp(logits).sum(axis=1)).astype(np.float32)
    known = np.arange(len(logits)) < len(test)
    right = logits[known].argmax(axis=1) == test.labels
    accuracy = tier_accuracy(right, test.labels, classes)
    samples = OpenSamples(confidence, np.append(right, np.zeros((~known).sum(), bool)), known)
    ranking, once = Ranking(confidence, known), np.ones(len(known))
    found = (100 * ranking.auroc(once), best_threshold(samples)[1])
    error = 100 * ranking.detection_error(once)
    return [float(accuracy["few"] or 0), float(accuracy["overall"] or 0), *found, error]


def measure(problem: Problem, repeats: int) -> Iterator[Row]:
    """One row a method."""
    found: dict[str, list[list[float]]] = {}
    for seed in range(repeats):
        base = problem.classes.base
        count = max(1, round(SHARE * len(base)))
        held = np.sort(np.random.default_rng(seed).choice(base, count, replace=False))
        left, unknown = without(problem, held)
        ((val, test),) = left.draws(1, seed)
        for name, scorer in scorers(left, val):
            found.setdefault(name, []).append(figures(scorer, test, unknown, left.classes))
        print(f"{problem.name}: repeat {seed}", file=sys.stderr, flush=True)
    for name, rows in found.items():
        mean, sd = (
            dict(zip(COLUMNS, of(rows, axis=0).tolist(), strict=True)) for of in (np.mean, np.std)
        )
        # Against the base model, repeat by repeat.
        apart = np.array(rows) - np.array(found["base"])
        error = (apart.std(axis=0) / np.sqrt(max(len(rows) - 1, 1))).tolist()
        yield {
            "problem": problem.name,
            "method": name,
            "repeats": repeats,
            "mean": mean,
            "sd": sd,
            "change": dict(zip(COLUMNS, apart.mean(axis=0).tolist(), strict=True)),
            "change_error": dict(zip(COLUMNS, error, strict=True)),
        }


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Markdown."""
    yield "| data | method | " + " | ".join(COLUMNS) + " |"
    yield "|---|---|" + "---:|" * len(COLUMNS)
    for row in rows:
        cells = []
        for name in COLUMNS:
            told = f"{row['mean'][name]:.1f}"
            if row["method"] != "base":
                change = f"{row['change'][name]:+.1f}"
                told += f" ({with_spread(change, row['change_error'][name], row['repeats'])})"
            cells.append(told)
        yield f"| {row['problem']} | {row['method']} | {' | '.join(cells)} |"


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    add_problems(parser, ["emoji", "icons"])
    parser.add_argument(
        "--repeats", type=positive, default=20, help="draws of unknown classes [%(default)s]"
    )
    add_json(parser)
    given = parser.parse_args()
    rows: list[Row] = []
    for problem in problems_of(given).values():
        rows += measure(problem, given.repeats)
        keep(rows, given.json)
    print("\n".join(table(rows)))


if __name__ == "__main__":
    run_script(main)
