"""`alphafix train`: features, head and neighbours -> corrected rows."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch

from alphafix.alphanet import combine, sweep
from alphafix.alphanet.history import log_history
from alphafix.alphanet.measure import contest
from alphafix.alphanet.neighbors import warn_of_few
from alphafix.alphanet.network import padding
from alphafix.alphanet.prepare import Source, hold_out, prepare, renumbered, seen, whole
from alphafix.alphanet.sampling import Pool, samples_per_epoch
from alphafix.alphanet.scores import Layout, bytes_of_table
from alphafix.alphanet.training import Data, Hyper, Trial
from alphafix.commands.command import Watch
from alphafix.commands.train.options import TrainOptions
from alphafix.errors import InputError, MissingStageError
from alphafix.features.store import FeatureStore
from alphafix.files import digest, write_text
from alphafix.loggers import Destinations
from alphafix.metrics.accuracy import Accuracy, tier_accuracy
from alphafix.metrics.selection import Rule
from alphafix.metrics.trade_off import Contest
from alphafix.progress import Progress, silent
from alphafix.run.artifact import Artifact, State
from alphafix.run.directory import (
    CLASSES,
    CORRECTION,
    HEAD,
    METRICS,
    NEIGHBORS,
    Provenance,
    Run,
)
from alphafix.values.arrays import IntArray
from alphafix.values.classes import TIERS, ClassTable
from alphafix.values.correction import Correction, Trials
from alphafix.values.head import Head
from alphafix.values.neighbors import Neighbours

logger = logging.getLogger(__name__)

COLUMNS = (*TIERS, "overall")

# Where finished batches of an unfinished sweep wait.
UNFINISHED = "unfinished-trials"

# Trials that train together. On a CPU more gain nothing: the products are large enough.
MOST_TRIALS_CPU = 10
MOST_TRIALS_GPU = 256


@dataclass(frozen=True)
class Plan:
    """What a sweep will take.

    Attributes:
        trials: T.
        steps: Steps of all trials together.
        samples: Training samples that any trial sees.
        bytes: Bytes of each large array, by name.
    """

    trials: int
    steps: int
    samples: int
    bytes: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        return {**vars(self), "bytes_total": sum(self.bytes.values())}


@dataclass(frozen=True)
class _Task:
    """Everything that a sweep is made of, checked."""

    run: Run
    options: TrainOptions
    classes: ClassTable
    head: Head
    hyper: Hyper
    wanted: tuple[sweep.Setting, ...]
    trials: list[Trial]
    train: Source
    val: Source | None
    layout: Layout
    device: torch.device
    provenance: Provenance


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
    plan: Plan | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """What was written."""
        return () if self.correction is None else (self.file,)

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
    if options.plan:
        return TrainResult(None, run.path(CORRECTION), plan(options))
    artifact = _artifact(run, options)
    if artifact.check(overwrite=options.overwrite):
        logger.info("%s is up to date", artifact.path)
        return TrainResult(Correction.load(artifact.path), artifact.path)
    destinations = Destinations.of(options.logger, run.folder, tensorboard=options.tensorboard)
    destinations.require()
    correction = fit(options, progress=watch.progress)
    correction.save(artifact.path, overwrite=options.overwrite)
    if correction.trials is not None:
        _write_history(run, correction.trials, destinations)
    else:
        run.path(METRICS).unlink(missing_ok=True)  # of an earlier correction
    forget_unfinished(run)
    return TrainResult(correction, artifact.path)


def state(options: TrainOptions) -> State:
    """Whether the correction is there as `work` would make it."""
    run = Run(options.run)
    return _artifact(run, options).state if run.has(CORRECTION) else State.MISSING


def _artifact(run: Run, options: TrainOptions) -> Artifact:
    return run.artifact(CORRECTION, _provenance(run, options, _device(options.device)))


def forget_unfinished(run: Run) -> None:
    """Remove the finished batches of a sweep that is no longer to be continued."""
    shutil.rmtree(run.path(UNFINISHED), ignore_errors=True)


def fit(options: TrainOptions, *, progress: Progress = silent) -> Correction:
    """Do what `train` does, but leave the run directory's correction as it is.

    Finished batches stay in the run directory until `forget_unfinished`.
    """
    run = Run(options.run)
    device = _device(options.device)
    provenance = _provenance(run, options, device)
    if options.method != "alphanet":
        from alphafix.commands.train.methods import fit_other, require_validation

        require_validation(run, options.method)
        ours = _for_auto(options, progress) if options.method == "auto" else None
        return fit_other(options, provenance, ours=ours, progress=progress)
    task = _task(run, options, provenance, device)
    data, trials = _sweep(task, progress)
    return _correction(task, data, trials)


def _for_auto(options: TrainOptions, progress: Progress) -> Correction | None:
    """AlphaNet under the same limit as the other methods, or None if it cannot keep it."""
    from alphafix.commands.train.methods import allowed_drop

    has_bias = Head.load(Run(options.run).require(HEAD)).bias is not None
    limited = {
        "method": "alphanet",
        "select": "constrained",
        "max_overall_drop": allowed_drop(options),
        "calibrate": has_bias,
    }
    try:
        return fit(options.model_copy(update=limited), progress=progress)
    except InputError as error:
        logger.info("AlphaNet is not among the choices: %s", error)
        return None


def plan(options: TrainOptions) -> Plan:
    """What `train` would do with these options, without training.

    Raises:
        InputError: If the method is not AlphaNet, whose trials alone can be planned.
    """
    if options.method != "alphanet":
        raise InputError("--plan is for --method alphanet", got=f"--method {options.method}")
    run = Run(options.run)
    device = _device(options.device)
    task = _task(run, options, _provenance(run, options, device), device)
    samples = len(seen(task.trials))
    together = min(_most(device), len(task.trials))
    inputs = task.head.width * (max(s.k for s in task.wanted) + task.hyper.include_self)
    parameters = inputs * task.hyper.hidden[0] * 4 * together
    # Trials with neighbours of their own have inputs of their own.
    shared = all((t.neighbors == task.trials[0].neighbors).all() for t in task.trials)
    different = 1 if shared else together
    few = len(task.classes.few)
    limit = int(options.memory * 2**30)
    dense = 4 * task.head.width

    def held(count: int) -> int:
        table = bytes_of_table(count, task.layout)
        return table if table <= limit else dense * count

    return Plan(
        trials=len(task.trials),
        steps=sum(trial.steps(task.hyper) for trial in task.trials),
        samples=samples,
        bytes={
            "training scores": held(samples),
            "validation scores": held(0 if task.val is None else len(task.val.index)),
            "network input": 4 * (few + padding(few)) * inputs * different,
            "networks and AdamW": 4 * parameters,
            "samples of all epochs": sum(trial.samples.nbytes for trial in task.trials),
        },
    )


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("no CUDA device is there", todo="use --device cpu")
    if name == "mps" and not torch.backends.mps.is_available():
        raise InputError("no MPS device is there", todo="use --device cpu")
    return torch.device(name)


def _most(device: torch.device) -> int:
    return MOST_TRIALS_CPU if device.type == "cpu" else MOST_TRIALS_GPU


def _provenance(run: Run, options: TrainOptions, device: torch.device) -> Provenance:
    run.require(run.manifest("train"))
    run.require_fresh(NEIGHBORS)
    names = [CLASSES, HEAD, NEIGHBORS, run.manifest("train")]
    if run.has(run.manifest("val")) and options.holdout is None:
        names.append(run.manifest("val"))
    recorded = {**options.recorded(), "device": device.type}
    return Provenance(stage="train", options=recorded, inputs=run.hashes(*names))


def _task(run: Run, options: TrainOptions, provenance: Provenance, device: torch.device) -> _Task:
    classes = ClassTable.load(run.require(CLASSES))
    classes.require_correctable()
    head = Head.load(run.require(HEAD))
    store = FeatureStore.open(run.features("train"))
    head.require_match(width=store.width, num_classes=store.num_classes)
    store.require_labels()
    train, val = _samples(run, options, store)
    if val is not None and options.select != "overall":
        _require_few(val, classes)
    hyper = _hyper(options, head)
    found = Neighbours.load(run.path(NEIGHBORS))
    wanted = sweep.settings(
        options.rho, options.k or (found.k,), range(options.seed, options.seed + options.seeds)
    )
    trials = _trials(wanted, found, classes, train, hyper, options.metric or found.metric)
    neighbors = np.concatenate([trial.neighbors.ravel() for trial in trials])
    layout = Layout.of(len(classes), classes.few, neighbors)
    return _Task(
        run, options, classes, head, hyper, wanted, trials, train, val, layout, device, provenance
    )


def _samples(run: Run, options: TrainOptions, store: FeatureStore) -> tuple[Source, Source | None]:
    """Training and validation samples."""
    if options.holdout is not None:
        kept, held = hold_out(store, options.holdout, seed=options.seed)
        logger.info(
            "%d of %d training samples held out for validation%s",
            *(len(held.index), len(store)),
            "; the features of val are not used" if run.has(run.manifest("val")) else "",
        )
        return kept, held
    if not run.has(run.manifest("val")):
        if len(options.rho) * max(len(options.k), 1) > 1 or options.calibrated:
            raise MissingStageError(
                "choosing a setting or an offset needs validation features",
                got="training features only",
                expected="features of the split val",
                todo="run `alphafix extract --split val`, or hold training features out with "
                "--holdout 0.2, or train a single --rho without --calibrate",
            )
        return whole(store), None
    val = FeatureStore.open(run.features("val"))
    val.require_labels()
    if (val.width, val.num_classes) != (store.width, store.num_classes):
        raise InputError(
            "training and validation features do not fit together",
            got=f"val: {val.num_classes} classes, width {val.width}",
            expected=f"train: {store.num_classes} classes, width {store.width}",
            todo="extract both with the same model and class order",
        )
    return whole(store), whole(val)


def _require_few(val: Source, classes: ClassTable) -> None:
    if not np.isin(val.labels, classes.few).any():
        raise InputError(
            "validation has no samples of few-split classes",
            got=f"{len(val.labels)} samples, all of base classes",
            expected="samples of few-split classes, for the rule to judge by",
            todo="add some, or use --select overall, or --holdout 0.2",
        )


def _hyper(options: TrainOptions, head: Head) -> Hyper:
    official = options.preset == "official"
    learn_bias = not official if options.learn_bias is None else options.learn_bias
    if head.bias is None and (options.learn_bias or options.calibrated):
        raise InputError(
            "the head has no biases, so none can be learned or calibrated",
            got="a head without bias",
            expected="a linear layer with bias",
            todo="give --no-calibrate and no --learn-bias, or give the model's last layer a bias "
            "of zeros first",
        )
    return Hyper(
        epochs=options.epochs,
        first_epoch=options.first_epoch,
        batch_size=options.batch_size,
        lr=options.lr,
        hidden=options.hidden,
        learn_bias=learn_bias and head.bias is not None,
        include_self=official if options.include_self is None else options.include_self,
        max_steps=options.max_steps,
    )


def _trials(
    wanted: Sequence[sweep.Setting],
    found: Neighbours,
    classes: ClassTable,
    train: Source,
    hyper: Hyper,
    metric: str,
) -> list[Trial]:
    pool = Pool.of(train.labels, classes)
    # Positions among the training samples become positions in the store.
    pool = Pool(train.index[pool.few], train.index[pool.base], pool.starts, pool.sizes)
    for k in sorted({setting.k for setting in wanted}):
        warn_of_few(k)
    means = found.means.astype(np.float64)
    shared: dict[int, IntArray] = {found.k: found.ids} if metric == found.metric else {}
    trials = []
    for setting in wanted:
        if metric == "random":
            neighbors = sweep.neighbors_of(setting, means, classes, metric)
        else:
            if setting.k not in shared:
                shared[setting.k] = sweep.neighbors_of(setting, means, classes, metric)
            neighbors = shared[setting.k]
        trials.append(sweep.make_trial(setting, neighbors, pool, hyper))
    logger.info(
        "%d trials; an epoch of rho %g has %d samples, %d of them few-split",
        len(trials),
        wanted[0].rho,
        samples_per_epoch(pool, wanted[0].rho),
        len(pool.few),
    )
    return trials


def _sweep(task: _Task, progress: Progress) -> tuple[Data, Trials]:
    index = seen(task.trials)
    data = prepare(
        Source(task.train.store, index),
        task.val,
        task.head,
        task.classes,
        task.layout,
        device=task.device,
        memory=int(task.options.memory * 2**30),
        progress=progress,
    )
    inputs = dict(task.provenance.inputs)
    made_from = digest([task.options.recorded_trials(), task.device.type, inputs])
    trials = sweep.run_sweep(
        task.wanted,
        renumbered(task.trials, index),
        data,
        task.classes,
        task.hyper,
        most=_most(task.device),
        keep=task.run.path(UNFINISHED),
        made_from=made_from,
        progress=progress,
    )
    return data, trials


def _correction(task: _Task, data: Data, trials: Trials) -> Correction:
    options, classes, head = task.options, task.classes, task.head
    offered: list[combine.Candidate | None]
    offered = list(combine.candidates(trials, ensemble=options.ensemble))
    rule = None
    if data.val is not None:
        rule = Rule(options.select, _base_accuracy(data, classes), options.max_overall_drop)
        offered = [_measured(task, data, rule, one) for one in offered if one is not None]
        chosen = combine.choose(offered, rule)
    else:
        chosen = next(one for one in offered if one is not None)
    biases = chosen.biases if task.hyper.learn_bias or options.calibrated else None
    return Correction(
        classes=classes.few,
        rows=chosen.rows(head.weight, classes.few),
        biases=biases,
        chosen=combine.describe(chosen, trials, rule, options.ensemble),
        trials=trials,
        provenance=task.provenance.to_dict(),
    )


def _measured(
    task: _Task, data: Data, rule: Rule, candidate: combine.Candidate
) -> combine.Candidate | None:
    assert data.val is not None
    scale = task.head.scale
    result: Contest = combine.on_validation(candidate, data.val, task.layout, scale)
    return combine.measured(
        candidate, result, task.classes, rule, calibrate=task.options.calibrated, scale=scale
    )


def _base_accuracy(data: Data, classes: ClassTable) -> Accuracy:
    """Validation accuracy of the base model, from its own few-split scores."""
    assert data.val is not None
    few = len(classes.few)
    none = np.zeros((few, 1), dtype=np.float32)
    own = classes.few[:, None]
    layout = Layout.of(len(classes), classes.few, own)
    scaled = data.biases.cpu().numpy() * np.float32(data.scale)
    result = contest(data.val, layout, own, none, scaled)
    return tier_accuracy(result.correct(), result.labels, classes)


def _write_history(run: Run, trials: Trials, destinations: Destinations) -> None:
    """One JSON line an epoch of each trial, and the same for the loggers that are wanted."""
    lines = [
        json.dumps({name: record[name] for name in ("rho", "k", "seed")} | epoch)
        for record in trials.settings
        for epoch in record["history"]
    ]
    write_text(run.path(METRICS), "".join(line + "\n" for line in lines), overwrite=True)
    log_history(trials, destinations)


def summary(correction: Correction) -> dict[str, Any]:
    """What was trained, measured on validation and chosen, as JSON data."""
    settings: dict[tuple[float, int], list[dict[str, Any]]] = {}
    for record in correction.trials.settings if correction.trials else ():
        settings.setdefault((record["rho"], record["k"]), []).append(record)
    return {
        "method": correction.method,
        "chosen": correction.chosen,
        "settings": [
            {"rho": rho, "k": k, "trials": len(records), "val": _over_seeds(records)}
            for (rho, k), records in settings.items()
        ],
    }


def _over_seeds(records: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Mean and standard deviation (ddof = 1) of each accuracy over the seeds."""
    if records[0]["val"] is None:
        return None
    found: dict[str, Any] = {}
    for name in COLUMNS:
        values = [record["val"][name] for record in records]
        if None in values:
            found[name] = None
            continue
        found[name] = {"mean": mean(values), "sd": stdev(values) if len(values) > 1 else None}
    return found
