"""The forms of model regression and MetaModelNet: does validation want any of them?

    python examples/evidence/few_shot.py --problems glyphs-crt,glyphs-ce,digits --seeds 3 --draws 5

Each form has its papers' objective with several lambdas: support vector machines and the hinge
loss, or batch normalisation, as in the papers; or discriminants, the cross-entropy and no
normalisation. For each seed of training and each draw of validation and test: the few-split gain on
*validation* of each form, with the lambda that validation chooses within the limits that `compare`
and `auto` have unasked (2 points, 95%), or 0 where no setting keeps them; and how often `auto`'s
choice among closed forms and the form takes it, again on validation (beside methods that train it
can but take it less often). What that changes on test, mean over all draws, is shown beside and
decides nothing. Last the seconds that the thread of the method took for training.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from arguments import add_json, keep, names_of, parser_of, positive, run_script
from problems import Problem, add_problems, problems_of
from spread import with_spread

from alphafix.features.features import Features
from alphafix.rivals import RIVALS
from alphafix.rivals.data import FitData, Offered, Trainings, choose, choose_method, predictions

FORMS = (
    "model-regression",
    "model-regression-lda",
    "metamodelnet",
    "metamodelnet-lda",
    "metamodelnet-plain",
)
OTHERS = tuple(name for name, one in RIVALS.items() if one.linear and not one.trains)


@dataclass(frozen=True)
class Found:
    """One form in one draw, in points.

    Attributes:
        problem: The data set.
        form: Its name.
        seed: Of its training.
        gain: Few-split gain on validation within the limits; 0 for none.
        best: The same of the best other method.
        picked: Whether the choice among these and the form is the form.
        few: What having the form changes in few-split accuracy on test.
        overall: The same of overall accuracy.
        seconds: Of training.
    """

    problem: str
    form: str
    seed: int
    gain: float
    best: float
    picked: bool
    few: float
    overall: float
    seconds: float


def measured(problem: Problem, seeds: int, draws: int, forms: Sequence[str]) -> list[Found]:
    """Forms, each seed and draw."""
    found = []
    for seed in range(seeds):
        trainings = Trainings()
        seconds: dict[str, float] = {}
        for val, test in problem.draws(draws, first=draws * seed):
            data = FitData(
                problem.train, val, problem.head, problem.classes, seed=seed, trainings=trainings
            )
            offers: dict[str, Offered] = {}
            for name in (*OTHERS, *forms):
                start = time.thread_time()
                offers[name] = RIVALS[name].offer(data)
                seconds.setdefault(name, time.thread_time() - start)
            found += of_draw(problem, data, test, offers, seconds)
    return found


def of_draw(
    problem: Problem,
    data: FitData,
    test: Features,
    offers: Mapping[str, Offered],
    seconds: Mapping[str, float],
) -> list[Found]:
    """The forms on one draw."""
    known = [offers[name] for name in OTHERS]
    gains = {name: gain(data, offer) for name, offer in offers.items()}
    best = max(gains[name] for name in OTHERS)
    without = on_test(problem, data, known, test)[1]
    rows = []
    for form in (name for name in offers if name not in OTHERS):
        method, figures = on_test(problem, data, [*known, offers[form]], test)
        few, overall = figures - without
        rows.append(
            Found(
                problem.name,
                form,
                data.seed,
                gains[form],
                best,
                method == form,
                float(few),
                float(overall),
                seconds[form],
            )
        )
    return rows


def gain(data: FitData, offer: Offered) -> float:
    """Few-split points that a method gains on validation within the limits."""
    chosen = choose(data, [offer]).choice.found
    return 0.0 if chosen is None else chosen.few_gain


def on_test(
    problem: Problem, data: FitData, offers: Sequence[Offered], test: Features
) -> tuple[str, np.ndarray]:
    """Which method is chosen, and few-split and overall accuracy on test with it, in percent."""
    fitted = choose_method(data, offers).fitted
    logits = problem.head.logits if fitted is None else fitted.logits
    right = 100.0 * (predictions(logits, test.array()) == test.labels)
    few = np.isin(test.labels, problem.classes.few)
    return "" if fitted is None else fitted.method, np.array([right[few].mean(), right.mean()])


def main() -> None:
    """Measure and print Markdown."""
    parser = parser_of(__doc__)
    add_problems(parser, ["glyphs-crt", "glyphs-ce", "digits"])
    parser.add_argument("--seeds", type=positive, default=3, help="trainings [%(default)s]")
    parser.add_argument(
        "--draws",
        type=positive,
        default=5,
        help="draws of validation and test, each seed [%(default)s]",
    )
    parser.add_argument(
        "--forms",
        type=names_of(FORMS),
        default=",".join(FORMS),
        metavar="NAMES",
        help="some of %(default)s [all]",
    )
    add_json(parser)
    given = parser.parse_args()
    found: list[Found] = []
    problems = problems_of(given).values()
    print("| problem | form | gain, val | best other | picked | few, test | overall, test | s |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for problem in problems:
        rows = measured(problem, given.seeds, given.draws, given.forms)
        found += rows
        for form in given.forms:
            mine = [row for row in rows if row.form == form]
            gains = np.array([row.gain for row in mine])
            picked = np.mean([row.picked for row in mine])
            best, few, overall, seconds = (
                np.mean([getattr(row, part) for row in mine])
                for part in ("best", "few", "overall", "seconds")
            )
            spread = gains.std(ddof=min(1, len(gains) - 1))
            gain = with_spread(f"{gains.mean():+.1f}", spread, len(gains))
            print(
                f"| {mine[0].problem} | {form} | {gain} | {best:+.1f} "
                f"| {picked:.0%} | {few:+.2f} | {overall:+.2f} | {seconds:.1f} |",
                flush=True,
            )
        keep([asdict(one) for one in found], given.json)


if __name__ == "__main__":
    run_script(main)
