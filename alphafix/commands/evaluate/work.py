"""`alphafix evaluate`: features, head and correction -> report.json."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from alphafix.commands.command import Watch
from alphafix.commands.evaluate.options import EvaluateOptions
from alphafix.errors import InputError
from alphafix.features.store import FeatureStore
from alphafix.files import write_text
from alphafix.metrics.alike import Alike
from alphafix.metrics.bootstrap import Resampling
from alphafix.metrics.evaluation import Evaluation
from alphafix.metrics.gates import GateResult, Gates, check_gates
from alphafix.metrics.groups import read_groups
from alphafix.metrics.measure import Asked, compare_predictions
from alphafix.metrics.predictions import BeforeAfter, Predictions, predict_pair
from alphafix.openset.figures import open_set_figures
from alphafix.progress import Progress, silent
from alphafix.report.ci import junit_report, markdown_report
from alphafix.run.artifact import Artifact, State
from alphafix.run.directory import CLASSES, CORRECTION, HEAD, REPORT, Provenance, Run
from alphafix.values.classes import ClassTable
from alphafix.values.correction import Correction
from alphafix.values.head import Head

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluated:
    """An evaluation and what it was made of.

    Attributes:
        evaluation: The figures.
        both: The predictions on ``store`` behind it.
        store: The evaluated features.
        head: The base head.
        correction: The correction.
        groups: The user's class groups, or None.
    """

    evaluation: Evaluation
    both: BeforeAfter
    store: FeatureStore
    head: Head
    correction: Correction
    groups: Alike | None


@dataclass(frozen=True)
class EvaluateResult:
    """An evaluation as it is in the run directory, and what became of the gates.

    Attributes:
        evaluation: The figures.
        outcomes: The gates.
        files: What was written.
    """

    evaluation: Evaluation
    outcomes: tuple[GateResult, ...]
    files: tuple[Path, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        gates = [outcome.to_dict() for outcome in self.outcomes]
        return {**self.evaluation.to_dict(), "gates": gates}


def work(options: EvaluateOptions, watch: Watch) -> EvaluateResult:
    """Evaluate a run's correction on stored features, write report.json, and hold the gates.

    Raises:
        MissingStageError: If there are no features of the split, or no correction.
        StaleInputError: If the correction was made from something that has changed since.
        InputError: If features, head, correction and class groups do not fit together.
        TargetExistsError: If there is another evaluation already.
    """
    artifact = _artifact(options)
    if artifact.check(overwrite=options.overwrite):
        logger.info("%s is up to date", artifact.path)
        found = Evaluation.load(artifact.path)
    else:
        found = measure(options, progress=watch.progress).evaluation
        found.save(artifact.path, overwrite=options.overwrite)
    outcomes = check_gates(found, gates_of(options))
    write_outputs(found, outcomes, options)
    files = (artifact.path, options.junit, options.markdown)
    return EvaluateResult(found, tuple(outcomes), tuple(file for file in files if file is not None))


def state(options: EvaluateOptions) -> State:
    """Whether the evaluation is there as `work` would make it."""
    return _artifact(options).state if Run(options.run).has(REPORT) else State.MISSING


def _artifact(options: EvaluateOptions) -> Artifact:
    run = Run(options.run)
    run.require_fresh(CORRECTION)
    return run.artifact(REPORT, _provenance(run, options))


def measure(options: EvaluateOptions, *, progress: Progress = silent) -> Evaluated:
    """Do what `work` does without writing, and return the predictions too."""
    run = Run(options.run)
    classes = ClassTable.load(run.require(CLASSES))
    store = open_features(run, options.on)
    head = Head.load(run.require(HEAD))
    head.require_match(width=store.width, num_classes=store.num_classes)
    run.require_fresh(CORRECTION)
    correction = Correction.load(run.path(CORRECTION))
    groups = None
    if options.groups is not None:
        groups = read_groups(options.groups, classes, edges=options.wordnet_edges)
    both = predict_pair(store, head, correction, progress=progress)
    if options.model is not None:
        after = _of_model(options, options.model, store, both.after, progress)
        both = replace(both, after=after)
    asked = Asked(
        classes,
        options.on,
        correction.method if options.model is None else options.model.name,
        groups,
        Resampling(options.bootstraps, options.seed),
        _provenance(run, options).to_dict(),
    )
    open_set = None
    if options.open is not None:
        unknown = predict_pair(
            _open_store(run, options.open, head), head, correction, progress=progress
        )
        open_set = open_set_figures(
            both, unknown, classes, threshold=options.open_threshold, resampling=asked.resampling
        )
    evaluation = compare_predictions(both, asked, open_set=open_set, progress=progress)
    return Evaluated(evaluation, both, store, head, correction, groups)


def _of_model(
    options: EvaluateOptions,
    model: Path,
    store: FeatureStore,
    after: Predictions,
    progress: Progress,
) -> Predictions:
    """Predictions of the checkpoint itself; a warning where they are not the correction's."""
    from alphafix.commands.evaluate.model import predict_model

    found = predict_model(options, model, store, progress=progress)
    differing = int((found.predicted != after.predicted).sum())
    if differing:
        logger.warning(
            "%s predicts %d of %d samples otherwise than the run's correction does: it holds "
            "other rows, or its backbone computes otherwise here",
            model,
            differing,
            len(store),
        )
    return found


def open_features(run: Run, split: str) -> FeatureStore:
    """The stored features of a split, with labels that are all known.

    Raises:
        MissingStageError: If there are none.
        InputError: If a label is out of range.
    """
    store = FeatureStore.open(run.features(split))
    store.require_labels()
    return store


def _open_store(run: Run, source: str, head: Head) -> FeatureStore:
    """The stored features of unknown classes.

    Raises:
        MissingStageError: If there are none.
        InputError: If some of them are of known classes, or of another width.
    """
    folder = run.features(source)
    store = FeatureStore.open(Path(source) if Path(source).is_dir() else folder)
    store.require_labels(known_only=False)
    known = int((store.labels >= 0).sum())
    if known:
        first = int(np.argmax(store.labels >= 0))
        raise InputError(
            f"{known} of the {len(store)} samples of {source} are of known classes",
            got=f"{store.ids[first]} of class {store.labels[first]}",
            expected="the label -1 throughout: samples of no class that the head knows",
            todo="extract unknown classes with --split open, and give --open open",
        )
    head.require_match(width=store.width, num_classes=store.num_classes)
    return store


def _provenance(run: Run, options: EvaluateOptions) -> Provenance:
    inputs = run.hashes(CLASSES, HEAD, CORRECTION, run.manifest(options.on))
    recorded = options.recorded()
    if options.model is not None:
        from alphafix.checkpoints import open_checkpoint

        recorded["model_sha256"] = open_checkpoint(options.model).sha256()
    return Provenance("evaluate", recorded, inputs)


def write_outputs(
    evaluation: Evaluation, outcomes: Sequence[GateResult], options: EvaluateOptions
) -> None:
    """Write the files for a CI system that the options name, replacing earlier ones.

    Raises:
        TargetExistsError: If a file of another kind is there and may not be replaced.
    """
    if options.junit is not None:
        _replace(options.junit, junit_report(evaluation, outcomes), options.overwrite)
    if options.markdown is not None:
        text = markdown_report(evaluation, outcomes)
        if str(options.markdown) == os.environ.get("GITHUB_STEP_SUMMARY"):
            with options.markdown.open("a", encoding="utf-8") as summary:  # others write there too
                summary.write(text)
        else:
            _replace(options.markdown, text, options.overwrite)


def _replace(path: Path, text: str, overwrite: bool) -> None:
    """Write a report, over an earlier one (which begins alike) but over nothing else."""
    begin = text[:20].encode()
    ours = path.is_file() and path.read_bytes()[: len(begin)] == begin
    write_text(path, text, overwrite=overwrite or ours)


def gates_of(options: EvaluateOptions) -> Gates:
    """The limits that the options set."""
    return Gates(
        min_few_gain=options.min_few_gain,
        max_overall_drop=options.max_overall_drop,
        max_base_drop=options.max_base_drop,
        max_class_drop=options.max_class_drop,
        confident=options.confident,
    )
