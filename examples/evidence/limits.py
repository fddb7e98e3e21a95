"""Do limits hold on fresh samples? Validation and test drawn anew, the best of all linear methods.

    python examples/evidence/limits.py --draws 40 --json limits.json
    python examples/evidence/limits.py --problems digits --methods few-bias,lda
    python examples/evidence/limits.py --problems digits --alphanet

For each data set, confidence and limit on the overall drop: the share of draws in which the test
samples keep the limit, the mean change of few-split and of overall accuracy on test, and how often
the base model was the choice. The test samples of a draw are twice the same: all of them, and as
many as validation has, which is what a promise is about.

With ``--alphanet``, AlphaNet and alphanet-lda take part, trained anew in every draw (2 trials, rho
0.5). Their epochs are chosen on the same validation samples, and that choice is made once: the
halves on which the promise is tried do not repeat it. This measures what that costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from arguments import add_json, keep, names_of, parser_of, positive, run_script
from problems import Problem, add_problems, problems_of

from alphafix.alphanet.fit import train_trials
from alphafix.alphanet.given import Given
from alphafix.alphanet.neighbors import nearest_neighbours
from alphafix.alphanet.pool import WIDER_POOL
from alphafix.alphanet.settings import FitSettings
from alphafix.features.features import Features
from alphafix.metrics.limits import Limits
from alphafix.rivals import RIVALS, alphanet
from alphafix.rivals.data import FitData, Offered, choose_method, predictions
from alphafix.values.arrays import IntArray

LIMITS = (0.0, 0.5, 1.0, 2.0)
CONFIDENCES = (0.5, 0.95)

# Those that need no training, so that hundreds of choices take minutes.
METHODS = (
    *("few-bias", "tau-norm", "logit-adjustment", "mean-directions", "mean-directions-few"),
    *("lda", "lda-few", "ncm-plain", "ncm-plain-cosine", "ncm-cl2-cosine"),
)


@dataclass(frozen=True)
class Kept:
    """How one limit was kept over the draws; changes in points on test.

    Attributes:
        problem: The data set.
        validation: Validation samples.
        confidence: With which the limit was asked for.
        limit: Points of overall accuracy that may be lost.
        kept: Share of draws in which all test samples keep it.
        kept_alike: The same on as many test samples as validation has.
        few: Mean change of few-split accuracy.
        overall: Mean change of overall accuracy.
        base: Share of draws in which the base model was the choice.
    """

    problem: str
    validation: int
    confidence: float
    limit: float
    kept: float
    kept_alike: float
    few: float
    overall: float
    base: float


def trained(problem: Problem, data: FitData) -> list[Offered]:
    """AlphaNet with both pools, each trial with the epoch that validation chooses."""
    means = problem.train.class_means()
    near = nearest_neighbours(means, problem.classes, k=min(5, len(problem.classes.base) - 1))
    given = Given(problem.train, data.val, problem.head, problem.classes, near)
    settings = FitSettings(seeds=(0, 1), device="cpu")
    pools = (settings, replace(settings, pool=WIDER_POOL))
    return [alphanet.offer(data, train_trials(given, one)) for one in pools]


def measured(
    problem: Problem, draws: int, methods: Sequence[str], *, with_alphanet: bool = False
) -> list[Kept]:
    """All limits and confidences on the same draws."""
    found: dict[tuple[float, float], list[tuple[bool, bool, float, float, bool]]] = {}
    size = 0
    for val, test in problem.draws(draws):
        size = len(val)
        data = FitData(problem.train, val, problem.head, problem.classes)
        offers = [RIVALS[name].offer(data) for name in methods]
        offers += trained(problem, data) if with_alphanet else []
        alike = smaller(test, size)
        right = predictions(problem.head.logits, test.array()) == test.labels
        few = np.isin(test.labels, problem.classes.few)
        for confidence in CONFIDENCES:
            for limit in LIMITS:
                limits = Limits(limit, confidence=confidence)
                outcome = choose_method(replace(data, limits=limits), offers)
                after = right
                if (chosen := outcome.fitted) is not None:
                    after = predictions(chosen.logits, test.array()) == test.labels
                change = 100 * (after.astype(float) - right)
                found.setdefault((confidence, limit), []).append(
                    (
                        change.mean() >= -limit - 1e-9,
                        change[alike].mean() >= -limit - 1e-9,
                        change[few].mean(),
                        change.mean(),
                        outcome.choice.found is None,
                    )
                )
    return [
        Kept(problem.name, size, *key, *(float(one) for one in np.mean(values, axis=0)))
        for key, values in found.items()
    ]


def smaller(test: Features, size: int) -> IntArray:
    """Places of ``size`` of the samples, classes as they are, or all where there are no more."""
    order = np.random.default_rng(0).permutation(len(test))
    order = order[np.argsort(test.labels[order], kind="stable")]
    count = min(size, len(test))
    return np.asarray(order[np.linspace(0, len(test) - 1, count).round().astype(np.int64)])


def main() -> None:
    """Measure and print Markdown."""
    parser = parser_of(__doc__)
    add_problems(parser, ["digits", "glyphs-crt", "glyphs-ce"])
    parser.add_argument(
        "--methods",
        type=names_of(RIVALS),
        default=",".join(METHODS),
        metavar="NAMES",
        help=f"some of {', '.join(RIVALS)} [%(default)s]",
    )
    parser.add_argument(
        "--draws", type=positive, default=40, help="draws of validation and test [%(default)s]"
    )
    parser.add_argument("--alphanet", action="store_true", help="AlphaNet takes part, too")
    add_json(parser)
    given = parser.parse_args()
    rows: list[Kept] = []
    for problem in problems_of(given).values():
        mine = measured(problem, given.draws, given.methods, with_alphanet=given.alphanet)
        rows += mine
        print(
            f"\n{mine[0].problem}: {given.draws} draws, {mine[0].validation:,} validation samples\n"
        )
        print("| limit | confidence | kept | as many samples | few | overall | base model |")
        print("|---|---|---|---|---|---|---|")
        for one in sorted(mine, key=lambda row: (row.limit, row.confidence)):
            print(
                f"| {one.limit:g} | {one.confidence:.0%} | {one.kept:.0%} | {one.kept_alike:.0%} | "
                f"{one.few:+.1f} | {one.overall:+.1f} | {one.base:.0%} |",
                flush=True,
            )
        keep([asdict(row) for row in rows], given.json)


if __name__ == "__main__":
    run_script(main)
