"""The figures of a recipe's results that a paper's table is to be held against."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alphafix.alphanet.measure import trial_accuracies
from alphafix.commands.options import CommandOptions
from alphafix.commands.train.options import TrainOptions
from alphafix.commands.train_oltr.options import TrainOltrOptions
from alphafix.features.store import FeatureStore
from alphafix.files import read_object
from alphafix.metrics.accuracy import COLUMNS, Accuracy, tier_accuracy
from alphafix.metrics.comparison import over_seeds
from alphafix.oltr.training.folder import EVALUATION
from alphafix.reading.boundary import reading
from alphafix.reading.schema import typed
from alphafix.recipes.expected import Beside, Cell, Row, read_expected
from alphafix.run.directory import CLASSES, CORRECTION, HEAD, Run
from alphafix.values.classes import ClassTable
from alphafix.values.correction import Correction
from alphafix.values.head import Head


def beside_expected(path: Path, steps: Iterable[CommandOptions]) -> Beside:
    """Hold what the steps of a recipe left against a table.

    Args:
        path: The table.
        steps: Options of the steps, which are done.

    Raises:
        InputError: If the table is not there.
        FileFormatError: If it is no such table, or a result is damaged.
    """
    expected = read_expected(path)
    measured: dict[str, Row] = {}
    for options in steps:
        if isinstance(options, TrainOptions):
            measured |= _of_trials(Run(options.run), expected.on, options)
        elif isinstance(options, TrainOltrOptions):
            measured |= _of_model(options, expected.on)
    return Beside(expected, measured)


def _of_trials(run: Run, on: str, options: TrainOptions) -> dict[str, Row]:
    """The base model, and mean and deviation over the trials of each rho, as AlphaNet reports."""
    if not (run.has(CORRECTION) and run.has(run.manifest(on))):
        return {}
    classes, head = ClassTable.load(run.path(CLASSES)), Head.load(run.path(HEAD))
    store = FeatureStore.open(run.features(on))
    predicted = [head.logits(x).argmax(1) for _, x in store.chunks()]
    base = tier_accuracy(np.concatenate(predicted) == store.labels, store.labels, classes)
    rows: dict[str, Row] = {"base model": _mean([base])}
    trials = Correction.load(run.path(CORRECTION)).trials
    if trials is None:
        return rows
    by_rho: dict[str, list[Accuracy]] = defaultdict(list)
    kind = "random rho" if options.metric == "random" else "rho"
    found = trial_accuracies(trials, head, classes, store)
    for record, accuracy in zip(trials.records, found, strict=True):
        by_rho[f"{kind} {record.rho:g}"].append(accuracy)
    return rows | {name: _mean(accuracies) for name, accuracies in by_rho.items()}


def _mean(found: list[Accuracy]) -> Row:
    by_tier = over_seeds(found)
    return {n: None if one is None else Cell(one.mean, one.std) for n, one in by_tier.items()}


def _of_model(options: TrainOltrOptions, on: str) -> dict[str, Row]:
    """Closed and open figures of a model of train-oltr, as OLTR reports them."""
    path = options.output / EVALUATION
    if not path.is_file():
        return {}
    with reading(path, "an evaluation of train-oltr"):
        data = typed(_Figures, read_object(path))
    closed = data.closed.get(on) or {}
    rows: dict[str, Row] = {
        options.method: {name: _cell(closed.get(name)) for name in COLUMNS},
    }
    for found in data.recognition:
        own = dict(rows.get(found.method, {}))
        own |= {f"open {name}": _cell(found.open.get(name)) for name in COLUMNS}
        rows[found.method] = {**own, "F": _cell(found.f_measure)}
    return rows


@dataclass(frozen=True)
class _Recognition:
    """What is read of a method's open-set figures."""

    method: str
    open: dict[str, float | None]
    f_measure: float | None


@dataclass(frozen=True)
class _Figures:
    """What is read of the evaluation of train-oltr."""

    closed: dict[str, dict[str, float | None] | None]
    recognition: tuple[_Recognition, ...] = ()


def _cell(value: float | None) -> Cell | None:
    return None if value is None else Cell(value)
