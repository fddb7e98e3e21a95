"""The trade-off over rho on the demo's images: the README's table, as measured.

    alphafix demo --run demo-crt && alphafix demo --run demo-ce --base ce
    python examples/glyphs_lt/trade_off_demo.py demo-crt demo-ce

For each run directory: the base model, then for each rho the nearest and the random
neighbours, mean ± standard deviation (ddof = 1) over the seeds on the test images, and the
accuracy of one model made of all seeds (the mean of their corrected rows).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean, stdev

from alphafix.alphanet.combine import combinations
from alphafix.alphanet.fit import fit
from alphafix.alphanet.measure import trial_accuracies
from alphafix.commands.train.options import TrainOptions
from alphafix.commands.train.work import given_in, settings_of
from alphafix.features.store import FeatureStore
from alphafix.metrics.accuracy import Accuracy, tier_accuracy
from alphafix.run.directory import CLASSES, HEAD, Run
from alphafix.values.classes import ClassTable
from alphafix.values.correction import Correction
from alphafix.values.head import Head

RHOS = (0.1, 0.25, 0.5, 1.0, 2.0)
COLUMNS = ("few", "medium", "many", "overall")


def head_accuracy(head: Head, classes: ClassTable, store: FeatureStore) -> Accuracy:
    """Test accuracy of a head."""
    right = head.logits(store.array()).argmax(1) == store.labels
    return tier_accuracy(right, store.labels, classes)


def rows_of(
    run: Run, metric: str, seeds: int, head: Head, classes: ClassTable, store: FeatureStore
) -> dict[float, tuple[str, str]]:
    """For each rho: mean ± deviation of single trials, and the mean of their rows."""
    options = TrainOptions.model_validate(
        {"run": run.folder, "rho": RHOS, "seeds": seeds, "metric": metric}
    )
    correction: Correction = fit(given_in(run), settings_of(options))
    if correction.trials is None:
        raise SystemExit("training gave no trials")
    accuracies = trial_accuracies(correction.trials, head, classes, store)
    found = {}
    for one in combinations(correction.trials, ensemble="mean"):
        single = [accuracies[trial] for trial in one.trials]
        rows = one.rows(head.weight, classes.few)
        joint = head_accuracy(head.with_rows(classes.few, rows, one.biases), classes, store)
        spread = " / ".join(over_seeds(single, name) for name in COLUMNS)
        found[one.rho] = (spread, " / ".join(f"{joint[name]:.1f}" for name in COLUMNS))
    return found


def over_seeds(single: list[Accuracy], name: str) -> str:
    """Mean ± standard deviation of one column."""
    values = [value for accuracy in single if (value := accuracy[name]) is not None]
    spread = f"±{stdev(values):.1f}" if len(values) > 1 else ""
    return f"{mean(values):.1f}{spread}"


def main() -> None:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    given = parser.parse_args()
    for folder in given.runs:
        run = Run(folder)
        classes, head = ClassTable.load(run.require(CLASSES)), Head.load(run.require(HEAD))
        store = FeatureStore.open(run.features("test"))
        base = head_accuracy(head, classes, store)
        print(f"\n{folder}: {classes.describe()}\n")
        print("| few / medium / many / overall | a single trial | mean of the rows |")
        print("|---|---|---|")
        print(f"| base model | {' / '.join(f'{base[name]:.1f}' for name in COLUMNS)} | |")
        for metric, name in (("euclidean", "nearest"), ("random", "random")):
            for rho, (single, joint) in rows_of(
                run, metric, given.seeds, head, classes, store
            ).items():
                print(f"| {name}, rho {rho:g} | {single} | {joint} |")


if __name__ == "__main__":
    main()
