"""All stages of a method, one after the other: the way from images to a trained model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from alphafix.oltr.centroids import ClassMeans
from alphafix.oltr.data import Images, TrainingData
from alphafix.oltr.distributed import add_up
from alphafix.oltr.heads import OLTRHead
from alphafix.oltr.methods import MethodSpec, Setting, StageSpec
from alphafix.oltr.metrics import ON_CPU, Running
from alphafix.oltr.model import LongTailModel
from alphafix.oltr.recipes import StageRecipe
from alphafix.oltr.training import Record, State, train_stage
from alphafix.progress import Progress, silent


@dataclass(frozen=True)
class Trained:
    """What training gives.

    Attributes:
        model: The model of the last stage, with the weights of its best epoch.
        best: Best epoch of each stage, from 1.
        history: Figures of each epoch of all stages.
    """

    model: LongTailModel
    best: tuple[int, ...]
    history: tuple[Record, ...]


def train_method(
    method: MethodSpec,
    setting: Setting,
    data: TrainingData,
    stages: tuple[StageRecipe, ...],
    *,
    seed: int = 0,
    running: Running = ON_CPU,
    first: LongTailModel | None = None,
    states: dict[int, State] | None = None,
    save: Callable[[State], None] | None = None,
    prepare: Callable[[LongTailModel], None] | None = None,
    progress: Progress = silent,
) -> Trained:
    """Train all stages of a method, or what is left of them.

    A head that is fitted on frozen features afterwards (`MethodSpec.head_only`) is not part of
    it.

    Args:
        method: Which models and objectives.
        setting: What they are built for.
        data: Training and validation images.
        stages: How each stage is trained.
        seed: Seed of everything random.
        running: Device, precision and processes.
        first: A trained model of the first stage, to leave that one out.
        states: The last state of each stage that was begun, by its number from 1.
        save: Given the whole state after every epoch.
        prepare: Called with each model before it is trained (to load pretrained weights into
            the first one, or to compile it).
        progress: Told of the steps.

    Raises:
        InputError: See `train_stage`.
    """
    model, best, history = first, [], []
    for number, (spec, stage) in enumerate(zip(method.stages, stages, strict=False), start=1):
        if number == 1 and first is not None:
            continue
        state = (states or {}).get(number)
        model = start_stage(
            spec, setting, data.train, model, seed=seed + number, running=running, fresh=not state
        )
        if prepare is not None:
            prepare(model)
        decay = stage.decay if spec.weight_decay is None else spec.weight_decay
        result = train_stage(
            model,
            spec.build_objective(model, setting),
            data,
            replace(stage, decay=decay),
            sampler="plain" if spec.sampler == "plain" else "class_aware",
            number=number,
            seed=seed,
            running=running,
            state=state,
            save=save,
            progress=progress,
        )
        best.append(result.best)
        history += result.history
    if model is None:
        raise ValueError(f"{method.name} has no stages")
    return Trained(model, tuple(best), tuple(history))


def start_stage(
    spec: StageSpec,
    setting: Setting,
    images: Images,
    previous: LongTailModel | None,
    *,
    seed: int,
    running: Running = ON_CPU,
    fresh: bool = True,
) -> LongTailModel:
    """Build the model of a stage as it is before the first step.

    Args:
        spec: The stage.
        setting: What it is built for.
        images: Training images, whose class means are the first centroids.
        previous: The trained model of the stage before.
        seed: Seed of its random weights.
        running: Device, precision and processes.
        fresh: Whether centroids are needed; not where a state is loaded anyway.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = spec.build_model(setting, previous)
    if spec.centroids and fresh and previous is not None and isinstance(model.head, OLTRHead):
        model.to(running.device)
        means = direct_means(model, images, setting.num_classes, running)
        weight, bias = previous.head.linear()
        model.head.initialise(weight, bias, means.to(weight))
    return model


def build_untrained(method: MethodSpec, setting: Setting) -> LongTailModel:
    """The architecture of a method's last model, for weights that are loaded into it."""
    model: LongTailModel | None = None
    for spec in method.stages:
        model = spec.build_model(setting, model)
    if model is None:
        raise ValueError(f"{method.name} has no stages")
    return model


@torch.inference_mode()
def direct_means(model: LongTailModel, images: Images, classes: int, running: Running) -> Tensor:
    """Class means of direct features with test transforms, float32 of shape C x D.

    Each process sums its part of the images.
    """
    model.eval()
    mine = np.arange(running.rank, len(images), running.world, dtype=np.int64)
    means: ClassMeans | None = None
    for pixels, labels in images.plain(mine, 256, running.device):
        direct = running.forward(model, pixels).direct
        if means is None:
            means = ClassMeans(classes, direct.shape[1])
        means.add(direct, labels)
    if means is None:
        raise ValueError("there are no images")
    means.combine(add_up)
    return means.means()
