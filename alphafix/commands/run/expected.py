"""The figures of a recipe's results that a paper's table is to be held against."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alphafix.alphanet.fit import train_trials
from alphafix.alphanet.kept import FinishedTrials
from alphafix.alphanet.measure import trial_accuracies
from alphafix.commands.compare.options import CompareOptions
from alphafix.commands.options import CommandOptions
from alphafix.commands.train.options import TrainOptions
from alphafix.commands.train.work import given_in, settings_of
from alphafix.commands.train_oltr.options import TrainOltrOptions
from alphafix.features.store import FeatureStore
from alphafix.files import atomic_paths, digest, read_object
from alphafix.metrics.accuracy import COLUMNS, Accuracy, tier_accuracy
from alphafix.metrics.comparison import Comparison, over_seeds
from alphafix.oltr.training.folder import EVALUATION
from alphafix.progress import Progress, silent
from alphafix.reading.boundary import reading
from alphafix.reading.schema import typed
from alphafix.recipes.expected import Beside, Cell, Row, read_expected
from alphafix.run.directory import CLASSES, COMPARISON, CORRECTION, FORMS, HEAD, Run
from alphafix.values.classes import ClassTable
from alphafix.values.correction import Correction
from alphafix.values.head import Head
from alphafix.values.trials import Trials


def beside_expected(
    path: Path, steps: Iterable[CommandOptions], progress: Progress = silent
) -> Beside:
    """Hold what the steps of a recipe left against a table.

    Where the table's figures may have been made by another form of AlphaNet than the recipe
    trains, the trials of that form are trained too, and kept in the run directory.

    Args:
        path: The table.
        steps: Options of the steps, which are done.
        progress: Told of training.

    Raises:
        InputError: If the table is not there.
        FileFormatError: If it is no such table, or a result is damaged.
    """
    expected = read_expected(path)
    measured: dict[str, Row] = {}
    forms: dict[str, dict[str, Row]] = {}
    steps = list(steps)
    trained = Counter(one.method for one in steps if isinstance(one, TrainOltrOptions))
    for options in steps:
        if isinstance(options, TrainOptions):
            run = Run(options.run)
            measured |= _of_trials(run, expected.on, options)
            for form in (form for form in expected.forms if form != options.preset):
                forms.setdefault(form, {}).update(
                    _of_form(run, expected.on, options, form, progress)
                )
        elif isinstance(options, TrainOltrOptions):
            # The same method on several data sets: each by the name of its folder.
            several = trained[options.method] > 1
            name = options.output.name if several else options.method
            measured |= _of_model(options, expected.on, name)
        elif isinstance(options, CompareOptions):
            measured |= _of_comparison(Run(options.run), expected.on)
    return Beside(expected, measured, forms)


def draw_expected(found: Beside, run: Path) -> list[Path]:
    """Draw the figure of a table, where it has one and anything was measured.

    Returns:
        SVG, PNG and CSV in the folder ``figures`` of the run directory; an earlier one is replaced.
    """
    lines = found.expected.figure
    if lines is None or not found.measured:
        return []
    from alphafix.report.expected_picture import expected_picture
    from alphafix.report.style import png_bytes, svg_text

    picture = expected_picture(found, lines)
    files = {
        "svg": svg_text(picture.drawing, picture.title).encode(),
        "png": png_bytes(picture.drawing, picture.title),
        "csv": picture.csv().encode(),
    }
    paths = [run / "figures" / f"{picture.name}.{suffix}" for suffix in files]
    with atomic_paths(paths, overwrite=True) as drafts:
        for draft, data in zip(drafts, files.values(), strict=True):
            draft.write_bytes(data)
    return paths


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
    return rows | _by_rho(trials, head, classes, store, options)


def _of_form(
    run: Run, on: str, options: TrainOptions, form: str, progress: Progress
) -> dict[str, Row]:
    """The rows of all rho as another preset trains them."""
    if options.method != "alphanet" or not (run.has(CORRECTION) and run.has(run.manifest(on))):
        return {}
    given = given_in(run, verify=options.verify)
    settings = settings_of(options.model_copy(update={"preset": form}))
    made_from = digest([run.provenance(CORRECTION)["inputs"], form])
    # Another run of the same command finds them.
    keep = FinishedTrials(run.path(FORMS), made_from, like=run.path(HEAD))
    trials = train_trials(given, settings, keep=keep, progress=progress)
    store = FeatureStore.open(run.features(on))
    return _by_rho(trials, given.head, given.classes, store, options)


def _by_rho(
    trials: Trials, head: Head, classes: ClassTable, store: FeatureStore, options: TrainOptions
) -> dict[str, Row]:
    by_rho: dict[str, list[Accuracy]] = defaultdict(list)
    kind = "random rho" if options.metric == "random" else "rho"
    found = trial_accuracies(trials, head, classes, store)
    for record, accuracy in zip(trials.records, found, strict=True):
        by_rho[f"{kind} {record.rho:g}"].append(accuracy)
    return {name: _mean(accuracies) for name, accuracies in by_rho.items()}


def _mean(found: list[Accuracy]) -> Row:
    by_tier = over_seeds(found)
    return {n: None if one is None else Cell(one.mean, one.std) for n, one in by_tier.items()}


def _of_comparison(run: Run, on: str) -> dict[str, Row]:
    """The methods of a comparison."""
    if not run.has(COMPARISON):
        return {}
    found = Comparison.load(run.path(COMPARISON))
    if found.on != on:
        return {}
    return {
        "base model" if row.method.family == "base" else row.method.name: {
            name: None if (one := row.figures[name]) is None else Cell(one.value)
            for name in COLUMNS
        }
        for row in found.rows
    }


def _of_model(options: TrainOltrOptions, on: str, name: str) -> dict[str, Row]:
    """Closed and open figures of a model of train-oltr, as OLTR reports them."""
    path = options.output / EVALUATION
    if not path.is_file():
        return {}
    with reading(path, "an evaluation of train-oltr"):
        data = typed(_Figures, read_object(path))
    closed = data.closed.get(on) or {}
    rows: dict[str, Row] = {
        name: {column: _cell(closed.get(column)) for column in COLUMNS},
    }
    for found in data.recognition:
        row = found.method.replace(options.method, name, 1)
        rows[row] = {**rows.get(row, {}), **_opened(found)}
    for one in data.open_classes:
        rows[f"{name}, {one.classes} unknown classes"] = _opened(one)
    for scored in data.detection:
        row = name if scored.method == "max-softmax" else f"{name} + {scored.method}"
        cells = {"detection error": _cell(scored.detection_error), "AUROC": _cell(scored.auroc)}
        rows[row] = {**rows.get(row, {}), **cells}
    return rows


def _opened(found: _Opened) -> Row:
    opened = {f"open {name}": _cell(found.open.get(name)) for name in COLUMNS}
    return {**opened, "F": _cell(found.f_measure)}


@dataclass(frozen=True)
class _Opened:
    """Open-set figures."""

    open: dict[str, float | None]
    f_measure: float | None


@dataclass(frozen=True)
class _Recognition(_Opened):
    """What is read of a method's open-set figures."""

    method: str


@dataclass(frozen=True)
class _SomeClasses(_Opened):
    """The same on some of the unknown classes."""

    classes: int


@dataclass(frozen=True)
class _Detection:
    """How well a score tells unknown samples."""

    method: str
    detection_error: float | None
    auroc: float | None


@dataclass(frozen=True)
class _Figures:
    """What is read of the evaluation of train-oltr."""

    closed: dict[str, dict[str, float | None] | None]
    recognition: tuple[_Recognition, ...] = ()
    open_classes: tuple[_SomeClasses, ...] = ()
    detection: tuple[_Detection, ...] = ()


def _cell(value: float | None) -> Cell | None:
    return None if value is None else Cell(value)
