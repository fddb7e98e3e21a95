"""`alphafix evaluate`: features, head and correction -> report.json."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alphafix.commands.command import Watch
from alphafix.commands.evaluate.options import EvaluateOptions
from alphafix.commands.records import placed
from alphafix.errors import InputError, TargetExistsError
from alphafix.features.features import Features
from alphafix.features.store import FeatureStore
from alphafix.files import refuse_existing, together, write_text
from alphafix.metrics.bootstrap import Resampling
from alphafix.metrics.doubts import Hits, chance_doubts
from alphafix.metrics.evaluation import Evaluation
from alphafix.metrics.gates import GateResult, Gates, check_gates
from alphafix.metrics.groups import read_groups
from alphafix.metrics.measure import Asked
from alphafix.openset.evaluating import Evaluated, Unknown, evaluate
from alphafix.progress import Progress, silent
from alphafix.report.ci import JUNIT, MARKDOWN, junit_report, markdown_report
from alphafix.run.artifact import Artifact, State
from alphafix.run.directory import (
    CLASSES,
    CORRECTION,
    HEAD,
    MODEL_REPORT,
    REPORT,
    Name,
    Provenance,
    Run,
)
from alphafix.values.classes import ClassTable
from alphafix.values.correction import Correction
from alphafix.values.head import Head

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluateResult:
    """An evaluation as it is in the run directory, and what became of the gates."""

    evaluation: Evaluation
    outcomes: tuple[GateResult, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        gates = [outcome.to_dict() for outcome in self.outcomes]
        return {**self.evaluation.to_dict(), "gates": gates}


def work(options: EvaluateOptions, watch: Watch) -> EvaluateResult:
    """Evaluate a run's correction on stored features, write report.json, and hold the gates.

    The evaluation of a model file is written to report-model.json: both can be there.

    Raises:
        MissingStageError: If there are no features of the split, or no correction.
        StaleInputError: If the correction was made from something that has changed since.
        InputError: If features, head, correction and class groups do not fit together.
        TargetExistsError: If there is another evaluation already.
    """
    artifact = _artifact(options)
    if _is_there(artifact, options):
        logger.info("%s is up to date", artifact.path)
        found = Evaluation.load(artifact.path)
        _warn(found)
    else:
        found = measure(options, progress=watch.progress).evaluation
        found.save(artifact.path, overwrite=options.overwrite)
    outcomes = check_gates(found, gates_of(options))
    write_outputs(found, outcomes, options)
    return EvaluateResult(found, tuple(outcomes))


def _is_there(artifact: Artifact, options: EvaluateOptions) -> bool:
    """Whether the evaluation is there; otherwise it may be made.

    Raises:
        TargetExistsError: If there is another one; it says what else a measurement lacks.
    """
    try:
        return artifact.check(overwrite=options.overwrite)
    except TargetExistsError as there:
        if options.model is not None:
            from alphafix.commands.evaluate.model import require_known

            store = FeatureStore.open(Run(options.run).features(options.on), verify=options.verify)
            try:
                require_known(options, options.model, store)
            except InputError as lacking:
                there.add(f"  besides:  {lacking.what}: {lacking.todo}")
        raise


def state(options: EvaluateOptions) -> State:
    """Whether the evaluation is there as `work` would make it."""
    there = Run(options.run).has(_name(options))
    return _artifact(options).state if there else State.MISSING


def _artifact(options: EvaluateOptions) -> Artifact:
    run = Run(options.run)
    run.require_fresh(CORRECTION)
    return run.artifact(_name(options), _provenance(options, run))


def _name(options: EvaluateOptions) -> Name:
    return REPORT if options.model is None else MODEL_REPORT


def measure(options: EvaluateOptions, *, progress: Progress = silent) -> Evaluated:
    """Do what `work` does without writing, and return the predictions too."""
    run = Run(options.run)
    classes = ClassTable.load(run.require(CLASSES))
    store = FeatureStore.open(run.features(options.on), verify=options.verify)
    head = Head.load(run.require(HEAD))
    run.require_fresh(CORRECTION)
    correction = Correction.load(run.path(CORRECTION))
    return measure_values(options, store, head, classes, correction, run=run, progress=progress)


def measure_values(
    options: EvaluateOptions,
    store: Features,
    head: Head,
    classes: ClassTable,
    correction: Correction,
    *,
    run: Run | None = None,
    progress: Progress = silent,
) -> Evaluated:
    """Evaluate a correction as the options ask for.

    Args:
        options: What is asked for, beside these values.
        store: The features to evaluate on.
        head: The base head.
        classes: The class table.
        correction: The correction.
        run: Where they come from, or None if from no run directory.
        progress: Told of samples and draws.
    """
    groups, shipped, unknown = None, None, None
    if options.groups is not None:
        groups = read_groups(options.groups, classes, edges=options.wordnet_edges)
    if options.model is not None:
        from alphafix.commands.evaluate.model import predict_model

        shipped = predict_model(options, options.model, store, classes, progress=progress)
    if options.open is not None:
        folder = Path(options.open)
        if run is not None and not folder.is_dir():
            folder = run.features(options.open)
        unknown = Unknown(
            FeatureStore.open(folder, verify=options.verify), options.open, options.open_threshold
        )
    asked = Asked(
        classes,
        options.on,
        correction.method if options.model is None else options.model.name,
        groups,
        Resampling(options.bootstraps, options.seed),
        _provenance(options, run).to_dict(),
    )
    found = evaluate(
        asked, store, head, correction, shipped=shipped, unknown=unknown, progress=progress
    )
    _warn(found.evaluation)
    return found


def _warn(evaluation: Evaluation) -> None:
    """Say that the base head is near chance, if it is."""
    base = Hits(evaluation.by_class.base, evaluation.by_class.samples)
    for doubt in chance_doubts({evaluation.on: base}):
        logger.warning("%s", doubt)


def _provenance(options: EvaluateOptions, run: Run | None) -> Provenance:
    inputs = {}
    if run is not None:
        inputs = run.hashes(CLASSES, HEAD, CORRECTION, run.manifest(options.on))
    recorded = options.recorded()
    if run is not None:
        recorded = placed(run, options, recorded)
    if options.model is not None:
        from alphafix.checkpoints.formats.opening import sha256_of

        # By its name: where it lies does not matter.
        recorded |= {"model": options.model.name, "model_sha256": sha256_of(options.model)}
    return Provenance("evaluate", recorded, inputs)


def write_outputs(
    evaluation: Evaluation, outcomes: Sequence[GateResult], options: EvaluateOptions
) -> None:
    """Write the files for a CI system that the options name, replacing earlier ones.

    Raises:
        TargetExistsError: If a file of another kind is there and may not be replaced.
    """
    if options.junit is not None:
        text = junit_report(evaluation, outcomes)
        _replace(options.junit, text, JUNIT, options.overwrite)
    if options.markdown is not None:
        text = markdown_report(evaluation, outcomes)
        if str(options.markdown) == os.environ.get("GITHUB_STEP_SUMMARY"):
            with options.markdown.open("a", encoding="utf-8") as summary:  # others write there too
                summary.write(text)
        else:
            _replace(options.markdown, text, MARKDOWN, options.overwrite)


def require_free(options: EvaluateOptions, *, overwrite: bool) -> None:
    """Check that the files for a CI system that are there already may be replaced.

    Raises:
        TargetExistsError: If a file of another kind is there, and may not be.
    """
    for path, begin in ((options.junit, JUNIT), (options.markdown, MARKDOWN)):
        if path is not None and str(path) != os.environ.get("GITHUB_STEP_SUMMARY"):
            refuse_existing(path, overwrite=overwrite or _is_ours(path, begin))


def _is_ours(path: Path, begin: str) -> bool:
    """Whether a file is an earlier report, which begins alike."""
    return path.is_file() and path.read_bytes().startswith(begin.encode())


def _replace(path: Path, text: str, begin: str, overwrite: bool) -> None:
    """Write a report, over an earlier one but over nothing else."""
    with together([path]):
        write_text(path, text, overwrite=overwrite or _is_ours(path, begin))


def gates_of(options: EvaluateOptions) -> Gates:
    """The limits that the options set."""
    return Gates(
        min_few_gain=options.min_few_gain,
        max_overall_drop=options.max_overall_drop,
        max_base_drop=options.max_base_drop,
        max_class_drop=options.max_class_drop,
        confident=options.confident,
    )
