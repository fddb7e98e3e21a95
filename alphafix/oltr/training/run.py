"""A whole training: from images and a recipe to an evaluated model in an output folder.

Every process of a training calls `train`; the first one writes.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from alphafix.files import refuse_existing, sha256_file, write_json, write_text
from alphafix.loggers import Destinations, Log
from alphafix.oltr.models.export import export
from alphafix.oltr.models.network import LongTailModel
from alphafix.oltr.models.spec import ModelSpec
from alphafix.oltr.training.checkpoints import Checkpoints, load_first_stage, load_pretrained
from alphafix.oltr.training.embedding import EMBEDDING, collect_embedding
from alphafix.oltr.training.evaluation import Evaluator, OpenSetSettings, evaluate_splits
from alphafix.oltr.training.folder import (
    CONFIG,
    EVALUATION,
    MODEL,
    ModelConfig,
    load_model,
    write_model,
)
from alphafix.oltr.training.images import TrainingData
from alphafix.oltr.training.loop import EpochRecord, StageState
from alphafix.oltr.training.methods import MethodSpec
from alphafix.oltr.training.pipeline import Hooks, Trained, fit_head, train_method
from alphafix.oltr.training.recipes import TrainingRecipe
from alphafix.oltr.training.running import Running
from alphafix.oltr.training.splits import ImageSplits
from alphafix.progress import Progress
from alphafix.run.artifact import Artifact, State
from alphafix.run.directory import METRICS, Provenance

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """All that a training is made of.

    Attributes:
        method: The method.
        recipe: How long, how fast and with which images.
        spec: What models are built for.
        images: The images.
        running: Device, precision and this process's place.
        recorded: The options that decide the weights, as JSON data.
        seed: Seed of everything random.
        pretrained: Checkpoint that the backbone starts from, or None.
        first_stage: Output folder of a training whose first stage is taken over, or None.
        compiled: Whether the network is compiled.
    """

    method: MethodSpec
    recipe: TrainingRecipe
    spec: ModelSpec
    images: ImageSplits
    running: Running
    recorded: Mapping[str, Any]
    seed: int = 0
    pretrained: Path | None = None
    first_stage: Path | None = None
    compiled: bool = False

    @cached_property
    def plan(self) -> dict[str, Any]:
        """What is trained, on what and how: what must be the same to go on."""
        inputs = {s: h for s, h in self.images.fingerprints().items() if s in ("train", "val")}
        if self.pretrained is not None:
            inputs["pretrained"] = sha256_file(self.pretrained)
        if self.first_stage is not None:
            inputs["first_stage"] = sha256_file(Checkpoints(self.first_stage).first_stage()[0])
        provenance = Provenance(
            stage="train-oltr",
            options={
                **self.recorded,
                "recipe": asdict(self.recipe),
                "precision": self.running.placement.precision,
                "device": self.running.device.type,
            },
            inputs=inputs,
        )
        return {**provenance.to_dict(), "names": list(self.images.classes.names)}

    def artifact(self, output: Path) -> Artifact:
        """The trained model in its output folder; its checkpoints stay there."""
        checkpoints = Checkpoints(output)
        beside = (output / name for name in (MODEL, EVALUATION, EMBEDDING, METRICS))
        return Artifact(
            output / CONFIG,
            self.plan,
            unfinished=checkpoints.folder,
            owned=(*beside, *checkpoints.files),
            kept=True,
        )

    def evaluated(self, output: Path, settings: OpenSetSettings) -> Artifact:
        """The evaluation of the model that is there now."""
        plan = {
            "model": sha256_file(output / MODEL),
            "images": self.images.fingerprints(),
            "open_threshold": settings.threshold,
            "openmax_rank": settings.openmax_rank,
            "odin": None if settings.odin is None else asdict(settings.odin),
            "open_classes": list(settings.classes),
        }
        return Artifact(output / EVALUATION, plan, owned=(output / EMBEDDING,))

    def state(self, output: Path, settings: OpenSetSettings) -> State:
        """Whether the model is there, trained and evaluated so."""
        found = self.artifact(output).state
        if found is not State.CURRENT:
            return found
        # An evaluation is made anew without asking.
        current = self.evaluated(output, settings).state is State.CURRENT
        return State.CURRENT if current else State.MISSING


def train(
    training: Training,
    output: Path,
    settings: OpenSetSettings,
    *,
    overwrite: bool,
    destinations: Destinations,
    progress: Progress,
) -> None:
    """Train a model into an output folder and evaluate it, or do what is left of that.

    Raises:
        InputError: If data or checkpoints cannot be used.
        TargetExistsError: If the folder holds another training, or files that are not known to
            be of one, and ``overwrite`` is false.
    """
    ranks = training.running.ranks
    artifact, checkpoints = training.artifact(output), Checkpoints(output)
    if not overwrite and artifact.begun() is None:
        for place in (artifact.path, *artifact.owned):
            refuse_existing(place, overwrite=False)
    trained = artifact.check(overwrite=overwrite, where="output")
    destinations.require()
    ranks.wait()  # nobody writes before everybody has checked
    if trained:
        logger.info("%s is trained already", output)
    else:
        if ranks.first:
            artifact.begin()
            if overwrite:
                checkpoints.remove_damaged()
        ranks.wait()
        found = _train(training, output, destinations, progress)
        if ranks.first:
            _write(training, found, output)
    if ranks.first:
        _evaluate(training, output, settings, progress)
    ranks.wait()


def _train(
    training: Training, output: Path, destinations: Destinations, progress: Progress
) -> Trained:
    images, ranks = training.images, training.running.ranks
    data = TrainingData(
        images.load("train"), images.load("val") if images.has("val") else None, images.classes
    )
    states = Checkpoints(output).states()
    if states and ranks.first:
        last = max(states)
        logger.info("going on after epoch %d of stage %d", states[last]["epoch"], last)
    ranks.wait()  # everybody has read before anybody writes
    with ExitStack() as logs:
        journal = _Journal(training, output, destinations, logs, states)
        return train_method(
            training.method,
            training.spec,
            data,
            training.recipe.stages,
            seed=training.seed,
            running=training.running,
            first=_given_first_stage(training),
            states=states,
            hooks=Hooks(
                prepare=lambda model, first: _prepare(training, model, begins=first and not states),
                save=journal.save if ranks.first else None,
                progress=progress,
            ),
        )


def _given_first_stage(training: Training) -> LongTailModel | None:
    if training.first_stage is None:
        return None
    model = training.method.stages[0].build_model(training.spec)
    load_first_stage(model, training.first_stage, training.images.classes.names)
    return model.to(training.running.device)


def _prepare(training: Training, model: LongTailModel, *, begins: bool) -> None:
    """Load weights where a training begins, share statistics of normalisation, compile."""
    if begins and training.pretrained is not None:
        load_pretrained(model.network.backbone, training.pretrained, training.spec.backbone)
    if training.running.device.type == "cuda" and training.running.ranks.world > 1:
        from timm.layers.norm_act import convert_sync_batchnorm

        convert_sync_batchnorm(model)
    if training.compiled:
        model.network.compile()


class _Journal:
    """Writes what is known after every epoch: the state, then the figures so far."""

    def __init__(
        self,
        training: Training,
        output: Path,
        destinations: Destinations,
        logs: ExitStack,
        states: Mapping[int, StageState],
    ) -> None:
        self._training, self._output = training, output
        self._destinations, self._logs = destinations, logs
        self._open: dict[int, Log] = {}
        self._records = {number: list(state["history"]) for number, state in states.items()}
        if states and training.running.ranks.first:
            self._write_metrics()  # a kill may have come between a state and its figures

    def save(self, state: StageState) -> None:
        """Write a state and its figures."""
        Checkpoints(self._output).save(state)
        self._records[state["stage"]] = list(state["history"])
        self._write_metrics()
        if self._destinations:
            record = state["history"][-1]
            self._log(state["stage"]).add(_figures(record), record["epoch"])

    def _write_metrics(self) -> None:
        records = [record for number in sorted(self._records) for record in self._records[number]]
        lines = [json.dumps(record, allow_nan=False) + "\n" for record in records]
        write_text(self._output / METRICS, "".join(lines), overwrite=True)

    def _log(self, stage: int) -> Log:
        if stage not in self._open:
            name = f"{self._training.method.name}-stage-{stage}"
            log = self._destinations.open(name, self._training.recorded)
            self._open[stage] = self._logs.enter_context(log)
        return self._open[stage]


def _figures(record: EpochRecord) -> dict[str, float]:
    """The figures of an epoch that a logger takes."""
    return {
        "loss": record["loss"],
        **{f"lr/{name}": rate for name, rate in record["lr"].items()},
        **{f"val/{k}": v for k, v in (record["val"] or {}).items() if v is not None},
    }


def _write(training: Training, trained: Trained, output: Path) -> None:
    images = training.images
    linear = fit_head(training.method, trained.model, images, training.running, seed=training.seed)
    model = export(trained.model, linear)
    config = ModelConfig(
        method=training.method.name,
        spec=training.spec,
        transform=images.transform,
        names=images.classes.names,
        bias=model.head.bias is not None,
    )
    more = {
        "classes": images.classes.to_dict(),
        "best_epochs": list(trained.best),
        "provenance": training.plan,
    }
    write_model(output, model, config, more)


def _evaluate(
    training: Training, output: Path, settings: OpenSetSettings, progress: Progress
) -> None:
    """Evaluate the model as it was written, unless exactly that was done already."""
    artifact = training.evaluated(output, settings)
    if artifact.state is State.CURRENT:
        return
    evaluator = Evaluator(load_model(output)[0], training.images, training.running, progress)
    found = evaluate_splits(training.method.name, evaluator, settings)
    split = next((name for name in ("test", "val") if training.images.has(name)), None)
    sample = (
        None
        if split is None
        else collect_embedding(
            evaluator.model.body,
            training.images.load(split),
            training.images.classes,
            training.running,
            split=split,
            seed=training.seed,
            info={"seed": training.seed, "model": artifact.plan["model"]},
        )
    )
    artifact.begin()
    if sample is not None:
        sample.save(output / EMBEDDING)
    # Last of all, as it says that everything asked for was done.
    write_json(artifact.path, {**found, "provenance": artifact.plan})
