"""`alphafix train`: features, head and neighbours -> corrected rows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alphafix.alphanet import fit as alphanet
from alphafix.alphanet.given import Given
from alphafix.alphanet.history import history_lines, log_history
from alphafix.alphanet.kept import FinishedTrials
from alphafix.alphanet.settings import FitSettings
from alphafix.alphanet.trial import Hyper
from alphafix.commands.command import Watch
from alphafix.commands.train.options import TrainOptions
from alphafix.devices import choose_device
from alphafix.errors import InputError, Words, option
from alphafix.features.store import FeatureStore
from alphafix.files import digest, write_files
from alphafix.loggers import Destinations
from alphafix.metrics.comparison import over_seeds
from alphafix.metrics.limits import Limits
from alphafix.metrics.samples import stored_doubts
from alphafix.rivals import AUTO_METHODS
from alphafix.rivals.correct import correct
from alphafix.rivals.kept import FinishedMethods
from alphafix.run.artifact import State
from alphafix.run.directory import (
    CLASSES,
    CORRECTION,
    FITTED,
    HEAD,
    METRICS,
    NEIGHBORS,
    UNFINISHED,
    Provenance,
    Run,
)
from alphafix.values.classes import ClassTable
from alphafix.values.correction import Correction
from alphafix.values.curve import Point
from alphafix.values.head import Head
from alphafix.values.neighbors import Neighbours
from alphafix.values.trials import TrialRecord

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult:
    """A correction as it is in the run directory, or what training would take.

    Attributes:
        correction: The correction; None if nothing was to be trained.
        file: Where it is, or would be.
        plan: What a sweep will take, if that alone was asked for.
    """

    correction: Correction | None
    file: Path
    plan: alphanet.SweepPlan | None = None

    def to_dict(self) -> dict[str, Any]:
        """What was trained, measured on validation and chosen, or planned, as JSON data."""
        if self.correction is None:
            return {} if self.plan is None else self.plan.to_dict()
        return summary(self.correction)


def work(options: TrainOptions, watch: Watch) -> TrainResult:
    """Train AlphaNet and save the correction of the few-split rows.

    Raises:
        MissingStageError: If features, head or neighbours are not there yet.
        StaleInputError: If the neighbours were made from other features.
        InputError: If the options do not fit the data.
        TargetExistsError: If there is another correction already.
    """
    run = Run(options.run)
    settings = settings_of(options)
    if options.plan:
        if options.method != "alphanet":
            raise InputError(
                f"{option('plan')} is for {option('method', 'alphanet')}",
                got=option("method", options.method),
            )
        _provenance(run, options)
        given = given_in(run, verify=options.verify)
        return TrainResult(None, run.path(CORRECTION), alphanet.plan(given, settings))
    artifact = run.artifact(CORRECTION, _provenance(run, options))
    if not options.overwrite and artifact.state is State.OTHER:
        moved = _moved(run, options)
        if moved is not None:
            return TrainResult(moved, artifact.path)
    _warn(run, held_out=options.holdout is not None)
    if artifact.check(overwrite=options.overwrite):
        logger.info("%s is up to date", artifact.path)
        correction = Correction.load(artifact.path)
        _finish(run, correction)  # which a killed command may not have done
        return TrainResult(correction, artifact.path)
    destinations = Destinations.of(options.logger, run.folder, tensorboard=options.tensorboard)
    destinations.require()
    made_from = digest(artifact.plan["inputs"])
    keep = FinishedTrials(run.path(UNFINISHED), made_from, like=run.path(HEAD))
    given = given_in(run, verify=options.verify)
    finished = FinishedMethods(run.path(FITTED) / "train", made_from, like=run.path(HEAD))
    found = correct(
        options.method,
        given,
        settings,
        methods=options.methods or ("alphanet", *AUTO_METHODS),
        seconds=options.time,
        keep=keep,
        finished=finished,
        progress=watch.progress,
    )
    if options.at is not None:
        found = found.moved(Point.parse(options.at), given.head, given.classes.few)
        _tell(found)
    if found.kept_because is not None:
        logger.warning("the base model is kept: %s", found.kept_because)
    correction = replace(found, provenance=dict(artifact.plan))
    correction.save(artifact.path, overwrite=options.overwrite, like=run.path(HEAD))
    if correction.trials is not None:
        log_history(correction.trials, destinations)
    _finish(run, correction)
    return TrainResult(correction, artifact.path)


def _tell(moved: Correction) -> None:
    """Warn of a correction that was moved beyond its limit."""
    if (broken := moved.chosen.broken_promise) is not None:
        logger.warning("%s", broken)


def _warn(run: Run, *, held_out: bool) -> None:
    """Say what speaks against the base head, or against the samples that are chosen on.

    Near chance training goes round in circles; on samples that the model was trained on nothing
    can be chosen.
    """
    for doubt in stored_doubts(run, ("train",) if held_out else ("train", "val")):
        logger.warning("%s", Words(doubt))


def _finish(run: Run, correction: Correction) -> None:
    """Leave beside a correction its own metrics, and nothing that an interruption needs."""
    metrics, lines = run.path(METRICS), _history(correction)
    if lines is None:
        metrics.unlink(missing_ok=True)  # of an earlier correction
    else:
        write_files({metrics: lines}, overwrite=True)
    FinishedTrials(run.path(UNFINISHED), "").clear()
    if not _left_out(correction):
        FinishedMethods(run.path(FITTED) / "train", "").clear()


def _left_out(correction: Correction) -> bool:
    """Whether methods had no time, so that those that had it are there for another command."""
    return bool((correction.chosen.auto or {}).get("left_out"))


def _history(correction: Correction) -> bytes | None:
    return None if correction.trials is None else history_lines(correction.trials).encode()


def _is_finished(run: Run) -> bool:
    """Whether `_finish` was done for the correction that is there."""
    correction = Correction.load(run.path(CORRECTION))
    metrics, lines = run.path(METRICS), _history(correction)
    found = metrics.read_bytes() if metrics.is_file() else None
    fitted = (run.path(FITTED) / "train").exists() and not _left_out(correction)
    return found == lines and not fitted and not run.path(UNFINISHED).exists()


def _moved(run: Run, options: TrainOptions) -> Correction | None:
    """The correction that is there, moved to the point that is asked for.

    None where no point is asked for, or another training than the one that made it.

    Raises:
        StaleInputError: If it was made from other features.
        InputError: If it has no curve, or the curve does not get there.
    """
    if options.at is None:
        return None
    earlier = run.provenance(CORRECTION)
    made, plain = earlier.get("options", {}), TrainOptions(run=options.run).recorded()
    asked = options.recorded()
    if any(
        value not in (plain[name], made.get(name)) for name, value in asked.items() if name != "at"
    ):
        return None
    run.require_fresh(CORRECTION)
    path = run.path(CORRECTION)
    head, classes = Head.load(run.require(HEAD)), ClassTable.load(run.require(CLASSES))
    found = Correction.load(path).moved(Point.parse(options.at), head, classes.few)
    _tell(found)
    provenance = {**earlier, "options": {**made, "at": options.at}}
    moved = replace(found, provenance=provenance)
    moved.save(path, overwrite=True, like=run.path(HEAD))
    logger.info("%s was moved, not trained again", path)
    return moved


def state(options: TrainOptions) -> State:
    """Whether the correction is there as `work` would make it."""
    run = Run(options.run)
    if not run.has(CORRECTION):
        return State.MISSING
    found = run.artifact(CORRECTION, _provenance(run, options)).state
    return State.UNFINISHED if found is State.CURRENT and not _is_finished(run) else found


def given_in(run: Run, *, verify: bool = True) -> Given:
    """What a run directory gives to fit a correction on."""
    validated = run.has(run.manifest("val"))
    return Given(
        FeatureStore.open(run.features("train"), verify=verify),
        FeatureStore.open(run.features("val"), verify=verify) if validated else None,
        Head.load(run.require(HEAD)),
        ClassTable.load(run.require(CLASSES)),
        Neighbours.load(run.path(NEIGHBORS)),
    )


def settings_of(options: TrainOptions) -> FitSettings:
    """The options as the library takes them."""
    return FitSettings(
        rhos=options.rho,
        ks=options.k,
        seeds=tuple(range(options.seed, options.seed + options.seeds)),
        metric=options.metric,
        preset=options.preset,
        pool=options.pool,
        include_self=options.include_self,
        learn_bias=options.learn_bias,
        hyper=Hyper(
            epochs=options.epochs,
            first_epoch=options.first_epoch,
            batch_size=options.batch_size,
            lr=options.lr,
            hidden=options.hidden,
            max_steps=options.max_steps,
        ),
        select=options.select,
        limits=Limits(
            options.max_overall_drop,
            options.max_base_drop,
            options.max_class_drop,
            options.confidence,
        ),
        ensemble=options.ensemble,
        calibrate=options.calibrated,
        holdout=options.holdout,
        holdout_head=options.holdout_head,
        allow_worse=options.allow_worse,
        device=options.device,
        memory=int(options.memory * 2**30),
    )


def _provenance(run: Run, options: TrainOptions) -> Provenance:
    run.require(run.manifest("train"))
    run.require_fresh(NEIGHBORS)
    names = [CLASSES, HEAD, NEIGHBORS, run.manifest("train")]
    if run.has(run.manifest("val")) and options.holdout is None:
        names.append(run.manifest("val"))
    recorded = {**options.recorded(), "device": choose_device(options.device).type}
    return Provenance(stage="train", options=recorded, inputs=run.hashes(*names))


def summary(correction: Correction) -> dict[str, Any]:
    """What was trained, measured on validation and chosen, as JSON data."""
    settings: dict[tuple[float, int], list[TrialRecord]] = {}
    for record in correction.trials.records if correction.trials else ():
        settings.setdefault((record.rho, record.k), []).append(record)
    return {
        "method": correction.method,
        "chosen": correction.chosen.to_dict(),
        "settings": [
            {"rho": rho, "k": k, "trials": len(records), "val": _val(records)}
            for (rho, k), records in settings.items()
        ],
    }


def _val(records: Sequence[TrialRecord]) -> dict[str, Any] | None:
    """Validation accuracy over the seeds by tier."""
    measured = [record.val for record in records if record.val is not None]
    return (
        {k: one and one.to_dict() for k, one in over_seeds(measured).items()} if measured else None
    )
