"""`alphafix train-oltr`: images and a recipe -> a base model, whole and usable."""

from __future__ import annotations

import functools
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from alphafix.commands.command import Watch
from alphafix.commands.train_oltr.data import open_images
from alphafix.commands.train_oltr.head import require_validation
from alphafix.commands.train_oltr.model import EVALUATION, Job, evaluate, write_model
from alphafix.commands.train_oltr.options import TrainOltrOptions
from alphafix.commands.train_oltr.recipe import ablations_of, resolve_recipe
from alphafix.distributed import Ranks, join
from alphafix.errors import InputError
from alphafix.files import read_json, refuse_existing, remove_temporary, sha256_file, write_text
from alphafix.loggers import Destinations, Log
from alphafix.models.extractor import Setting as Device
from alphafix.oltr.checkpoints import Checkpoints, read_state
from alphafix.oltr.data import TrainingData
from alphafix.oltr.embedding import EMBEDDING
from alphafix.oltr.export import CONFIG, MODEL
from alphafix.oltr.methods import METHODS, Setting
from alphafix.oltr.metrics import Running
from alphafix.oltr.model import LongTailModel
from alphafix.oltr.pipeline import Trained, train_method
from alphafix.oltr.pretrained import load_first_stage, load_pretrained
from alphafix.oltr.training import Record
from alphafix.oltr.training import State as TrainingState
from alphafix.progress import Progress
from alphafix.run.artifact import State
from alphafix.run.directory import METRICS, Provenance
from alphafix.values.classes import ClassTable

logger = logging.getLogger(__name__)

# What is left beside the checkpoints.
_RESULTS = (CONFIG, MODEL, EVALUATION, EMBEDDING, METRICS)


@dataclass(frozen=True)
class TrainOltrResult:
    """A trained model.

    Attributes:
        folder: Its output folder.
        classes: The class table.
        best: Best epoch of each training stage, from 1.
        evaluation: Figures of the evaluated splits (see `evaluate_splits`).
    """

    folder: Path
    classes: ClassTable
    best: tuple[int, ...]
    evaluation: dict[str, Any]

    @property
    def files(self) -> tuple[Path, ...]:
        """What was written."""
        return (self.folder / MODEL, self.folder / CONFIG, self.folder / EVALUATION)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "output": str(self.folder),
            "classes": len(self.classes),
            "best_epochs": list(self.best),
            "evaluation": self.evaluation,
        }


def work(options: TrainOltrOptions, watch: Watch) -> TrainOltrResult:
    """Train a base model into an output folder.

    What an interrupted command left is used, with the same result as without interruption (on
    one device); what is finished is left as it is. Under `torchrun` all processes train
    together.

    Raises:
        InputError: If data, recipe, checkpoint or options cannot be used.
        TargetExistsError: If the folder holds another training.
    """
    with _joined(options) as ranks:
        job = _prepare(options, ranks)
        plan = _plan(job)
        checkpoints = Checkpoints(options.output / "checkpoint")
        _check(options, checkpoints, plan)
        destinations = Destinations.of(options.logger, options.output)
        destinations.require()
        ranks.wait()  # nobody writes before everybody has checked
        if ranks.first:
            _begin(options.output, checkpoints, plan)
        ranks.wait()
        if (options.output / CONFIG).is_file():
            logger.info("%s is trained already", options.output)
        else:
            trained = _train(job, checkpoints, destinations, watch.progress)
            if ranks.first:
                write_model(job, trained, plan)
        if ranks.first:
            evaluate(job, watch.progress)
        ranks.wait()
        return _result(options.output)


def state(options: TrainOltrOptions) -> State:
    """To do: `work` itself tells what of it is up to date."""
    return State.MISSING


@contextmanager
def _joined(options: TrainOltrOptions) -> Iterator[Ranks]:
    on_gpus = options.device in ("auto", "cuda") and torch.cuda.is_available()
    if on_gpus:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    # NCCL for the tensors on GPUs, gloo for those beside them.
    with join("cpu:gloo,cuda:nccl" if on_gpus else "gloo") as ranks:
        yield ranks


def _prepare(options: TrainOltrOptions, ranks: Ranks) -> Job:
    recipe = resolve_recipe(options)
    images = open_images(options, recipe)
    require_validation(METHODS[options.method], tuple(images.sources))
    device = Device.choose(options.device, options.precision, local_rank=ranks.local_rank)
    if ranks.first:
        logger.info("%s", images.classes.describe())
    if "val" not in images.sources:
        logger.warning("there is no split val: the last epoch is kept, not the best one")
    return Job(
        options=options,
        recipe=recipe,
        method=METHODS[options.method],
        images=images,
        load=functools.cache(lambda split: images.images(split, recipe, _workers(options, ranks))),
        setting=Setting(
            backbone=recipe.backbone,
            counts=images.classes.counts,
            input_channels=images.transform.channels,
            size=images.transform.size,
            width=recipe.width,
            preset=options.preset,
            ablations=ablations_of(options),
            experts=options.experts,
        ),
        running=Running(device.device, device.precision, ranks.rank, ranks.world),
        ranks=ranks,
    )


def _plan(job: Job) -> dict[str, Any]:
    """What is trained, on what and how: what must be the same to go on."""
    options = job.options
    weights = {"pretrained": options.pretrained, "first_stage": _first_stage(options)}
    fingerprints = job.images.fingerprints()
    provenance = Provenance(
        stage="train-oltr",
        options={
            **options.recorded(),
            "recipe": asdict(job.recipe),
            "precision": job.running.precision,
            "device": job.running.device.type,
        },
        inputs={
            **{name: sha256_file(path) for name, path in weights.items() if path is not None},
            **{split: fingerprints[split] for split in ("train", "val") if split in fingerprints},
        },
    )
    return {**provenance.to_dict(), "names": list(job.images.classes.names)}


def _first_stage(options: TrainOltrOptions) -> Path | None:
    """The state of the first stage that another training left."""
    if options.first_stage is None:
        return None
    path = Checkpoints(options.first_stage / "checkpoint").path(1)
    if not path.is_file():
        raise InputError(
            f"{options.first_stage} holds no first stage",
            got=f"no {path}",
            expected="an output folder of train-oltr",
            todo="correct --first-stage",
        )
    return path


def _check(options: TrainOltrOptions, checkpoints: Checkpoints, plan: dict[str, Any]) -> None:
    """Refuse a folder that holds another training, or files that are not known to be ours."""
    checkpoints.check(plan, overwrite=options.overwrite)
    if checkpoints.plan() is None:
        for name in _RESULTS:
            refuse_existing(options.output / name, overwrite=options.overwrite)


def _begin(output: Path, checkpoints: Checkpoints, plan: dict[str, Any]) -> None:
    """Clear what another training left: what makes the folder a model first."""
    for name in _RESULTS:
        if not checkpoints.is_of(plan):
            (output / name).unlink(missing_ok=True)
        remove_temporary(output, name)
    checkpoints.begin(plan)


def _train(
    job: Job, checkpoints: Checkpoints, destinations: Destinations, progress: Progress
) -> Trained:
    data = TrainingData(
        job.load("train"),
        job.load("val") if "val" in job.images.sources else None,
        job.images.classes,
    )
    states = checkpoints.states()
    if states and job.ranks.first:
        logger.info("going on after epoch %d of stage %d", *_reached(states))
    job.ranks.wait()  # everybody has read before anybody writes
    with ExitStack() as logs:
        journal = Journal(job, checkpoints, destinations, logs, states)
        return train_method(
            job.method,
            job.setting,
            data,
            job.recipe.stages,
            seed=job.options.seed,
            running=job.running,
            first=_given_first_stage(job),
            states=states,
            save=journal.save if job.ranks.first else None,
            prepare=_preparer(job, states),
            progress=progress,
        )


def _reached(states: dict[int, TrainingState]) -> tuple[int, int]:
    last = max(states)
    return states[last]["epoch"], last


def _given_first_stage(job: Job) -> LongTailModel | None:
    path = _first_stage(job.options)
    if path is None:
        return None
    model = job.method.stages[0].build_model(job.setting)
    plan = Checkpoints(path.parent).plan() or {}
    names = tuple(str(name) for name in plan.get("names", ()))
    load_first_stage(model, read_state(path), path, (names, job.images.classes.names))
    return model.to(job.running.device)


def _preparer(job: Job, states: dict[int, TrainingState]) -> Callable[[LongTailModel], None]:
    """What is done to a model before it is trained."""
    file = None if states else job.options.pretrained
    started: list[LongTailModel] = []

    def prepare(model: LongTailModel) -> None:
        if file is not None and not started:
            load_pretrained(model.network.backbone, file, job.setting.backbone)
        started.append(model)
        if job.running.device.type == "cuda" and job.running.world > 1:
            from timm.layers.norm_act import convert_sync_batchnorm

            convert_sync_batchnorm(model)
        if job.options.compile:
            model.network.compile()

    return prepare


class Journal:
    """Writes what is known after every epoch: the state, then the figures so far.

    Args:
        job: The training.
        checkpoints: Where the states go.
        destinations: Where the figures go besides metrics.jsonl.
        logs: Closes these at the end.
        states: The states that the training goes on from.
    """

    def __init__(
        self,
        job: Job,
        checkpoints: Checkpoints,
        destinations: Destinations,
        logs: ExitStack,
        states: dict[int, TrainingState],
    ) -> None:
        self._job, self._checkpoints = job, checkpoints
        self._destinations, self._logs = destinations, logs
        self._open: dict[int, Log] = {}
        self._records = {number: list(state["history"]) for number, state in states.items()}
        if states and job.ranks.first:
            self._write_metrics()  # a kill may have come between a state and its figures

    def save(self, state: TrainingState) -> None:
        """Write a state and its figures."""
        self._checkpoints.save(state)
        self._records[state["stage"]] = list(state["history"])
        self._write_metrics()
        if self._destinations:
            record = state["history"][-1]
            self._log(state["stage"]).add(_figures(record), record["epoch"])

    def _write_metrics(self) -> None:
        records = [record for number in sorted(self._records) for record in self._records[number]]
        lines = [json.dumps(record, allow_nan=False) + "\n" for record in records]
        write_text(self._job.options.output / METRICS, "".join(lines), overwrite=True)

    def _log(self, stage: int) -> Log:
        if stage not in self._open:
            name = f"{self._job.method.name}-stage-{stage}"
            config = self._job.options.recorded()
            self._open[stage] = self._logs.enter_context(self._destinations.open(name, config))
        return self._open[stage]


def _figures(record: Record) -> dict[str, float]:
    """The figures of an epoch that a logger takes."""
    return {
        "loss": record["loss"],
        **{f"lr/{name}": rate for name, rate in record["lr"].items()},
        **{f"val/{k}": v for k, v in (record["val"] or {}).items() if v is not None},
    }


def _result(output: Path) -> TrainOltrResult:
    config, evaluation = read_json(output / CONFIG), read_json(output / EVALUATION)
    return TrainOltrResult(
        folder=output,
        classes=ClassTable.from_dict(config["classes"]),
        best=tuple(config["best_epochs"]),
        evaluation={name: value for name, value in evaluation.items() if name != "asked"},
    )


def _workers(options: TrainOltrOptions, ranks: Ranks) -> int:
    """Loading processes: one a core of this process's share of the machine."""
    if options.workers is not None:
        return options.workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(16, (cores or 1) // ranks.local_world))
