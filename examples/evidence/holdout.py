"""Held-out training samples in place of validation: is what they choose right?

    python examples/evidence/holdout.py --draws 10 --json holdout.json
    python examples/evidence/holdout.py --problems digits

For each data set, method and way of choosing a setting: the change of few-split and of overall
accuracy on test, mean and standard deviation over the draws, and what the judge believed of both. A
fifth of the training samples is held out, or true validation samples are used, drawn from the pool
that test is from. Limit: one point of overall accuracy, on the samples that judge.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np
from arguments import add_json, keep, names_of, parser_of, positive, run_script
from problems import Problem, add_problems, problems_of
from spread import with_spread

from alphafix.alphanet.given import Given
from alphafix.alphanet.neighbors import nearest_neighbours
from alphafix.alphanet.settings import FitSettings, HeldOutHead
from alphafix.alphanet.sources import hold_out
from alphafix.features.features import Features
from alphafix.metrics.limits import Limits
from alphafix.rivals import LINEAR_METHODS, RIVALS
from alphafix.rivals.correct import correct
from alphafix.rivals.data import predictions
from alphafix.values.classes import ClassTable
from alphafix.values.correction import Correction
from alphafix.values.head import Head

LIMITS = Limits(1.0, confidence=0.5)
RHOS = (0.1, 0.5, 2.0)
SHARE = 0.2
METHODS = ("few-bias", "lda", "alphanet")
CLOSED = tuple(name for name in LINEAR_METHODS if not RIVALS[name].trains)
KNOWN = ("alphanet", "auto", *CLOSED)
"""What can be chosen on a head that is refitted."""

# How each is chosen: on true validation samples, on held-out ones with the given head, or with one
# that is refitted without them.
REFITTED: tuple[HeldOutHead, ...] = ("ce", "crt", "ridge")
WAYS = ("validation", "given head", *REFITTED)


@dataclass(frozen=True)
class Found:
    """One way of choosing the setting of one method; in points, mean and deviation over draws.

    Attributes:
        problem: The data set.
        method: What is corrected by.
        way: What judges.
        base_few: Few-split accuracy of the base model for the judge, in percent.
        few: Change of few-split accuracy on test.
        overall: Change of overall accuracy on test.
        believed_few: The same as the judge saw it.
        believed_overall: The same.
        kept: Share of draws in which test keeps the limit.
        none: Share of draws in which the base model was the choice.
    """

    problem: str
    method: str
    way: str
    base_few: float
    few: tuple[float, float]
    overall: tuple[float, float]
    believed_few: float
    believed_overall: float
    kept: float
    none: float


def measured(problem: Problem, draws: int, method: str, way: str) -> Found:
    """All draws of one way."""
    rows = []
    for seed, (val, test) in enumerate(problem.draws(draws)):
        found = chosen(problem, val, method, way, seed)
        after, before = found.chosen.val, found.chosen.val_base
        if after is None or before is None:
            raise SystemExit("nothing was measured")
        few, overall = (
            change(problem.head, found, test, problem.classes, name) for name in ("few", "overall")
        )
        seen = [(after[name] or 0.0) - (before[name] or 0.0) for name in ("few", "overall")]
        rows.append((before["few"] or 0.0, few, overall, *seen, overall >= -1 - 1e-9))
        rows[-1] += (found.is_base,)
    values = np.array(rows, dtype=np.float64)
    mean, spread = values.mean(axis=0), values.std(axis=0, ddof=min(1, draws - 1))
    return Found(
        problem.name,
        method,
        way,
        float(mean[0]),
        (float(mean[1]), float(spread[1])),
        (float(mean[2]), float(spread[2])),
        *(float(one) for one in mean[3:]),
    )


def chosen(problem: Problem, val: Features, method: str, way: str, seed: int) -> Correction:
    """The correction that one judge chooses."""
    near = nearest_neighbours(problem.train.class_means(), problem.classes, k=5)
    given = Given(problem.train, val, problem.head, problem.classes, near)
    settings = FitSettings(
        rhos=RHOS,
        seeds=tuple(range(3 * seed, 3 * seed + 3)),
        select="constrained",
        calibrate=True,
        limits=LIMITS,
        device="cpu",
    )
    if way == "given head":  # what the commands refuse
        held = hold_out(problem.train, SHARE, seed=settings.seeds[0])
        given = replace(given, train=held[0].features(), val=held[1].features())
    elif way != "validation":
        how: HeldOutHead = next(one for one in REFITTED if one == way)
        settings = replace(settings, holdout=SHARE, holdout_head=how)
    return correct(method, given, settings)


def change(
    head: Head, correction: Correction, test: Features, classes: ClassTable, tier: str
) -> float:
    """Points that a tier gains on test."""
    mine = np.isin(test.labels, classes.tier(tier))
    x, labels = test.array()[mine], test.labels[mine]
    after, before = (predictions(one.logits, x) == labels for one in (correction.apply(head), head))
    return float(100 * (after.mean() - before.mean()))


def main() -> None:
    """Measure and print Markdown."""
    parser = parser_of(__doc__)
    add_problems(parser, ["digits", "glyphs-crt", "glyphs-ce"])
    parser.add_argument(
        "--methods",
        type=names_of(KNOWN),
        default=",".join(METHODS),
        metavar="NAMES",
        help=f"some of {', '.join(KNOWN)} [%(default)s]",
    )
    parser.add_argument(
        "--draws", type=positive, default=10, help="draws of validation and test [%(default)s]"
    )
    add_json(parser)
    given = parser.parse_args()
    found: list[Found] = []
    for problem in problems_of(given).values():
        print(f"\n{problem.name}: {given.draws} draws\n")
        print("| method | chosen on | base, few | few | overall | seen | limit kept | base kept |")
        print("|---|---|---:|---:|---:|---:|---:|---:|")
        for method in given.methods:
            for way in WAYS:
                one = measured(problem, given.draws, method, way)
                found.append(one)
                few, overall = (
                    with_spread(f"{m:+.1f}", s, given.draws) for m, s in (one.few, one.overall)
                )
                seen = f"{one.believed_few:+.1f}, {one.believed_overall:+.1f}"
                print(
                    f"| {method} | {way} | {one.base_few:.1f} | {few} | {overall} | {seen} "
                    f"| {one.kept:.0%} | {one.none:.0%} |",
                    flush=True,
                )
        keep([asdict(one) for one in found], given.json)


if __name__ == "__main__":
    run_script(main)
