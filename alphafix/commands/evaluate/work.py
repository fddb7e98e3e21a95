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
from alphafix.errors import InputError, option
from alphafix.features.store import FeatureStore
from alphafix.files import write_text
from alphafix.metrics.bootstrap import Resampling
from alphafix.metrics.evaluation import Evaluation
from alphafix.metrics.gates import GateResult, Gates, check_gates
from alphafix.metrics.groups import read_groups
from alphafix.metrics.measure import Judged, Shipped
from alphafix.openset.evaluating import Evaluated, evaluate
from alphafix.progress import Progress, silent
from alphafix.report.ci import junit_report, markdown_report
from alphafix.run.artifact import Artifact, State
from alphafix.run.directory import CLASSES, CORRECTION, HEAD, REPORT, Provenance, Run
from alphafix.values.classes import ClassTable
from alphafix.values.correction import Correction
from alphafix.values.head import Head

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluateResult:
    """An evaluation as it is in the run directory, and what became of the gates.

    Attributes:
        evaluation: The figures.
        gates: The gates, met or not.
        files: What was written.
    """

    evaluation: Evaluation
    gates: tuple[GateResult, ...]
    files: tuple[Path, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        return {**self.evaluation.to_dict(), "gates": [gate.to_dict() for gate in self.gates]}


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
    gates = check_gates(found, gates_of(options))
    write_outputs(found, gates, options)
    files = (artifact.path, options.junit, options.markdown)
    return EvaluateResult(found, tuple(gates), tuple(file for file in files if file is not None))


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
    store = FeatureStore.open(run.features(options.on))
    store.require_labels()
    head, classes = Head.load(run.require(HEAD)), ClassTable.load(run.require(CLASSES))
    run.require_fresh(CORRECTION)
    judged = Judged(store, head, classes, Correction.load(run.path(CORRECTION)))
    judged = with_options(options, judged, run=run, progress=progress)
    provenance = _provenance(run, options).to_dict()
    return evaluate(judged, resampling_of(options), provenance=provenance, progress=progress)


def resampling_of(options: EvaluateOptions) -> Resampling:
    """The bootstrap draws of the options."""
    return Resampling(options.bootstraps, options.seed)


def with_options(
    options: EvaluateOptions, judged: Judged, *, run: Run | None = None, progress: Progress = silent
) -> Judged:
    """What is judged, with class groups, unknown classes and model file that the options name.

    Args:
        options: The options.
        judged: What is judged.
        run: The run directory that has features of unknown classes, if there is one.
        progress: Told of images.

    Raises:
        MissingStageError: If there are no features of unknown classes.
        InputError: If class groups, unknown features or model file cannot be used.
    """
    groups = unknown = shipped = None
    if options.groups is not None:
        groups = read_groups(options.groups, judged.classes, edges=options.wordnet_edges)
    if options.open is not None:
        unknown = _open_store(options.open, run)
    if options.model is not None:
        from alphafix.commands.evaluate.model import predict_model

        said = predict_model(options, options.model, judged, progress=progress)
        shipped = Shipped(options.model.name, said)
    return replace(
        judged,
        on=options.on,
        groups=groups,
        unknown=unknown,
        open_threshold=options.open_threshold,
        shipped=shipped,
    )


def _open_store(source: str, run: Run | None) -> FeatureStore:
    """The stored features of unknown classes.

    Raises:
        MissingStageError: If there are none.
        InputError: If some of them are of known classes.
    """
    given = Path(source)
    store = FeatureStore.open(given if run is None or given.is_dir() else run.features(source))
    store.require_labels(known_only=False)
    known = int((store.labels >= 0).sum())
    if known:
        first = int(np.argmax(store.labels >= 0))
        raise InputError(
            f"{known} of the {len(store)} samples of {source} are of known classes",
            got=f"{store.ids[first]} of class {store.labels[first]}",
            expected="the label -1 throughout: samples of no class that the head knows",
            todo=f"extract unknown classes with {option('split', 'open')}, and give "
            f"{option('open', 'open')}",
        )
    return store


def _provenance(run: Run, options: EvaluateOptions) -> Provenance:
    inputs = run.hashes(CLASSES, HEAD, CORRECTION, run.manifest(options.on))
    recorded = options.recorded()
    if options.model is not None:
        from alphafix.checkpoints import open_checkpoint
        from alphafix.checkpoints.head.finding import checkpoint_sha256

        recorded["model_sha256"] = checkpoint_sha256(open_checkpoint(options.model))
    return Provenance("evaluate", recorded, inputs)


def write_outputs(
    evaluation: Evaluation, gates: Sequence[GateResult], options: EvaluateOptions
) -> None:
    """Write the files for a CI system that the options name, replacing earlier ones.

    Raises:
        TargetExistsError: If a file of another kind is there and may not be replaced.
    """
    if options.junit is not None:
        _replace(options.junit, junit_report(evaluation, gates), options.overwrite)
    if options.markdown is not None:
        text = markdown_report(evaluation, gates)
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
