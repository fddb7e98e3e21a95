"""AlphaNet on small and large data: the default against a grid of steps and learning rates.

    python examples/evidence/steps.py [--sizes 1,2,3,4,5] [--trials 3] [--json FILE]

The demo's letters with the cross-entropy head, in five sizes, from 45 samples an epoch (5 of each
of 6 few-split classes) to 21,000: what is few-split is said by ``few_below``. For each size the
default and every other combination of steps an epoch (at least) and learning rate, the mean of 3
trials' rows after the last epoch. The figure is accuracy on all samples of the pool, weighted as
AlphaNet's epochs weight training samples (few-split samples 1, base classes rho in all), which is
what it learns; few and overall beside it. Where an epoch has enough samples, more steps are left
out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from arguments import add_json, keep, names_of, parser_of, positive, run_script
from problems import Problem, glyphs

from alphafix.alphanet.combine import combinations
from alphafix.alphanet.fit import train_trials
from alphafix.alphanet.given import Given
from alphafix.alphanet.neighbors import nearest_neighbours
from alphafix.alphanet.settings import LEAST_STEPS as STEPS_OF_DEFAULT
from alphafix.alphanet.settings import FitSettings
from alphafix.features.features import Features
from alphafix.values.classes import ClassTable
from alphafix.values.head import Head

RHO = 0.5
LEAST_STEPS = (0, 12, 40)
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)

# Few-split classes that are left, and samples of each; what is few-split.
SIZES: tuple[tuple[int | None, int | None, int], ...] = (
    (6, 5, 20),
    (30, 10, 20),
    (None, None, 40),
    (None, None, 100),
    (None, None, 190),
)


@dataclass(frozen=True)
class Small:
    """A problem in one size: training samples of some few-split classes are left out."""

    whole: Problem
    train: Features
    classes: ClassTable

    @property
    def few_samples(self) -> int:
        """Few-split training samples: an epoch has 1 + rho times as many."""
        return int(np.isin(self.train.labels, self.classes.few).sum())


def sized(whole: Problem, few: int | None, samples: int | None, few_below: int) -> Small:
    """Leave ``few`` few-split classes with ``samples`` samples; the others are taken out."""
    labels, table = whole.train.labels, whole.classes.with_thresholds(few_below, 1000)
    kept = np.ones(len(labels), dtype=bool)
    ids = np.arange(len(table))
    if few is not None:
        ids = np.union1d(table.base, table.few[:few])
        kept = np.isin(labels, ids)
        for label in table.few[:few]:
            kept[np.flatnonzero(labels == label)[samples:]] = False
    places = np.searchsorted(ids, labels[kept])
    train = Features.of(whole.train.array()[kept], places, num_classes=len(ids))
    inside = np.isin(whole.pool.labels, ids)
    pool = Features.of(
        whole.pool.array()[inside],
        np.searchsorted(ids, whole.pool.labels[inside]),
        num_classes=len(ids),
    )
    bias = whole.head.bias
    head = replace(
        whole.head, weight=whole.head.weight[ids], bias=None if bias is None else bias[ids]
    )
    classes = ClassTable.of(places, num_classes=len(ids)).with_thresholds(few_below, 1000)
    return Small(replace(whole, pool=pool, head=head, classes=classes), train, classes)


def measure(small: Small, settings: FitSettings) -> tuple[float, float, float]:
    """Objective's accuracy in percent, and the change of few and overall in points."""
    classes, head, pool = small.classes, small.whole.head, small.whole.pool
    near = nearest_neighbours(small.train.class_means(), classes, k=5)
    trials = train_trials(Given(small.train, None, head, classes, near), settings)
    (one,) = combinations(trials, ensemble="mean")
    new = head.with_rows(classes.few, one.rows(head.weight, classes.few), one.biases)
    before, after = (figures(each, pool, classes) for each in (head, new))
    return after[0], after[1] - before[1], after[2] - before[2]


def figures(head: Head, pool: Features, classes: ClassTable) -> tuple[float, float, float]:
    """Objective's accuracy, few and overall in percent."""
    right = 100.0 * (head.logits(pool.array()).argmax(axis=1) == pool.labels)
    few = np.isin(pool.labels, classes.few)
    base = np.mean([right[pool.labels == label].mean() for label in classes.base])
    return float((right[few].mean() + RHO * base) / (1 + RHO)), right[few].mean(), right.mean()


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    known = [str(number + 1) for number in range(len(SIZES))]
    parser.add_argument(
        "--sizes",
        type=names_of(known),
        default=",".join(known),
        help="which sizes, the smallest is 1 [%(default)s]",
    )
    parser.add_argument(
        "--trials", type=positive, default=3, help="trials of AlphaNet a setting [%(default)s]"
    )
    add_json(parser)
    given = parser.parse_args()
    whole, rows = glyphs("ce"), []
    default = FitSettings(rhos=(RHO,), seeds=tuple(range(given.trials)), device="cpu")
    for number in map(int, given.sizes):
        small = sized(whole, *SIZES[number - 1])
        ways = {"default": default}
        epoch = int(small.few_samples * (1 + RHO))
        enough = -(-epoch // default.hyper.batch_size)
        for least in (least for least in LEAST_STEPS if not least or least > enough):
            for rate in RATES:
                if not least and enough >= STEPS_OF_DEFAULT and rate == default.hyper.lr:
                    continue  # that is the default
                hyper = replace(default.hyper, least_steps=least, lr=rate)
                ways[f"{max(least, enough)} steps, lr {rate:g}"] = replace(
                    default, hyper=hyper, preset="paper"
                )
        for way, settings in ways.items():
            value, few, overall = measure(small, settings)
            rows.append({"samples an epoch": epoch, "way": way, "objective": value})
            rows[-1] |= {"few": few, "overall": overall}
            told = f"{epoch:6} {way:24} {value:6.2f} few {few:+6.2f} overall {overall:+6.2f}"
            print(told, flush=True)
        keep(rows, given.json)


if __name__ == "__main__":
    run_script(main)
