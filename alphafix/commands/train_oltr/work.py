"""`alphafix train-oltr`: images and a recipe -> a base model, whole and usable."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from alphafix.commands.command import Watch
from alphafix.commands.train_oltr.options import TrainOltrOptions
from alphafix.devices import Placement
from alphafix.distributed import Ranks, join, loading_processes
from alphafix.errors import InputError, option
from alphafix.files import read_object
from alphafix.loggers import Destinations
from alphafix.oltr.models.spec import Ablations, ModelSpec
from alphafix.oltr.training.evaluation import OpenSetSettings
from alphafix.oltr.training.folder import CONFIG, EVALUATION
from alphafix.oltr.training.methods import METHODS
from alphafix.oltr.training.pipeline import require_validation
from alphafix.oltr.training.recipes import (
    of_method,
    read_recipe,
    resized,
    retimed,
    without_weights,
)
from alphafix.oltr.training.run import Training, train
from alphafix.oltr.training.running import Running
from alphafix.oltr.training.splits import ImageSplits, open_images
from alphafix.oltr.training.unknown import require_classes
from alphafix.openset.odin import OdinGrid
from alphafix.reading.boundary import reading
from alphafix.reading.schema import typed
from alphafix.run.artifact import State
from alphafix.values.classes import ClassTable

logger = logging.getLogger(__name__)


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

    @classmethod
    def read(cls, folder: Path) -> TrainOltrResult:
        """What lies in an output folder."""
        config, evaluation = read_object(folder / CONFIG), read_object(folder / EVALUATION)
        with reading(folder / CONFIG, "a config of train-oltr"):
            classes = ClassTable.from_dict(config["classes"])
            best = typed(tuple[int, ...], config["best_epochs"], "best_epochs")
        figures = {k: value for k, value in evaluation.items() if k != "provenance"}
        return cls(folder=folder, classes=classes, best=best, evaluation=figures)

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
        training = training_of(options, ranks)
        if ranks.first:
            logger.info("%s", training.images.classes.describe())
        if not training.images.has("val"):
            logger.warning("there is no split val: the last epoch is kept, not the best one")
        train(
            training,
            options.output,
            _open_set(options),
            overwrite=options.overwrite,
            destinations=Destinations.of(options.logger, options.output),
            progress=watch.progress,
        )
        return TrainOltrResult.read(options.output)


def state(options: TrainOltrOptions) -> State:
    """Whether the model is there, trained and evaluated as `work` would (see it for errors)."""
    return training_of(options).state(options.output, _open_set(options))


@contextmanager
def _joined(options: TrainOltrOptions) -> Iterator[Ranks]:
    on_gpus = options.device in ("auto", "cuda") and torch.cuda.is_available()
    if on_gpus:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    # NCCL for the tensors on GPUs, gloo for those beside them.
    with join("cpu:gloo,cuda:nccl" if on_gpus else "gloo") as ranks:
        yield ranks


def training_of(options: TrainOltrOptions, ranks: Ranks = Ranks()) -> Training:  # noqa: B008
    """The training that the options ask for, with its images opened and checked.

    Raises:
        InputError: If data, recipe or options cannot be used.
    """
    recipe = of_method(read_recipe(options.recipe, options.preset), options.method)
    if options.pretrained is None and options.first_stage is None:
        recipe = without_weights(recipe, from_scratch=options.from_scratch)
    other = ("backbone", "width", "channels", "few_below", "many_above")
    recipe = resized(recipe.changed(**_of(options, *other)), options.image_size)
    recipe = retimed(recipe, **_of(options, "epochs", "lr", "feature_lr", "batch_size"))
    images = open_images(
        options.data,
        recipe,
        **_of(options, "open", "open_val", "root", "class_order", "class_map"),
        workers=loading_processes(options.workers, ranks),
    )
    _require_for_open_set(options, images)
    method = METHODS[options.method]
    require_validation(method, tuple(images.sources))
    place = Placement.choose(options.device, options.precision, local_rank=ranks.local_rank)
    return Training(
        method=method,
        recipe=recipe,
        spec=ModelSpec(
            backbone=recipe.backbone,
            counts=images.classes.counts,
            input_channels=images.transform.channels,
            size=images.transform.size,
            width=recipe.width,
            preset=options.preset,
            ablations=Ablations(**_of(options, *Ablations.__dataclass_fields__)),
            experts=options.experts,
            diversity=recipe.diversity,
            spread=recipe.spread,
        ),
        images=images,
        running=Running(place, ranks),
        recorded=options.recorded(),
        seed=options.seed,
        pretrained=options.pretrained,
        first_stage=options.first_stage,
        compiled=options.compile,
    )


def _require_for_open_set(options: TrainOltrOptions, images: ImageSplits) -> None:
    """Check that the evaluation at the end will have the images that it takes.

    Raises:
        InputError: If it lacks some.
    """
    if options.open_classes:
        if not images.has("open"):
            raise InputError(
                "there are no images of unknown classes",
                got=f"{option('open_classes')} without {option('open')}",
                expected="a folder of images for each unknown class",
                todo=f"give {option('open')}",
            )
        require_classes(images.sources["open"], options.open_classes)
    if len(options.odin_temperature) * len(options.odin_step) > 1 and not images.has("val"):
        raise InputError(
            "ODIN's temperature and step are chosen on validation",
            got="no split val",
            expected="known images that are not trained on",
            todo=f"give one {option('odin_temperature')} and one {option('odin_step')}, or images "
            "for validation",
        )


def _of(options: TrainOltrOptions, *names: str) -> dict[str, Any]:
    """Options that the library calls by the same names."""
    return {name: getattr(options, name) for name in names}


def _open_set(options: TrainOltrOptions) -> OpenSetSettings:
    rank = options.openmax_rank if options.openmax else None
    threshold = None if options.open_threshold == "auto" else options.open_threshold
    odin = OdinGrid(options.odin_temperature, options.odin_step) if options.odin else None
    return OpenSetSettings(threshold, rank, odin, options.open_classes)
