"""All stages of a method, one after the other: the way from images to a trained model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from alphafix.errors import InputError, call, option
from alphafix.features.features import Features
from alphafix.features.sums import ClassSums
from alphafix.metrics.limits import Limits
from alphafix.oltr.models.heads import LinearForm, OLTRHead
from alphafix.oltr.models.network import LongTailModel
from alphafix.oltr.models.spec import ModelSpec
from alphafix.oltr.training.images import Images, TrainingData
from alphafix.oltr.training.loop import EpochRecord, StageState, train_stage
from alphafix.oltr.training.methods import MethodSpec, StageSpec
from alphafix.oltr.training.recipes import StageRecipe
from alphafix.oltr.training.running import BATCH, ON_CPU, Running, head_inputs, linear_head
from alphafix.oltr.training.splits import ImageSplits
from alphafix.progress import Progress, silent
from alphafix.rivals import fit_method
from alphafix.rivals.data import FitData


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
    history: tuple[EpochRecord, ...]


@dataclass(frozen=True)
class Hooks:
    """What is done around the training itself.

    Attributes:
        prepare: Called with each model before it is trained, and whether it is the first that
            is (to load pretrained weights into that one, or to compile each).
        save: Given the whole state after every epoch.
        progress: Told of the steps.
    """

    prepare: Callable[[LongTailModel, bool], None] = lambda model, first: None
    save: Callable[[StageState], None] | None = None
    progress: Progress = silent


def train_method(
    method: MethodSpec,
    spec: ModelSpec,
    data: TrainingData,
    recipes: tuple[StageRecipe, ...],
    *,
    seed: int = 0,
    running: Running = ON_CPU,
    first: LongTailModel | None = None,
    states: Mapping[int, StageState] | None = None,
    hooks: Hooks = Hooks(),
) -> Trained:
    """Train all stages of a method, or what is left of them.

    A head that is fitted on frozen features afterwards (`MethodSpec.head_only`) is not part of
    it.

    Args:
        method: Which models and objectives.
        spec: What they are built for.
        data: Training and validation images.
        recipes: How each stage is trained.
        seed: Seed of everything random.
        running: Device, precision and processes.
        first: A trained model of the first stage, to leave that one out.
        states: The last state of each stage that was begun, by its number from 1.
        hooks: What is done around it.

    Raises:
        InputError: See `train_stage`.
    """
    model = first
    best: list[int] = []
    history: list[EpochRecord] = []
    for number, (stage, recipe) in enumerate(zip(method.stages, recipes, strict=False), start=1):
        if number == 1 and first is not None:
            continue
        state = (states or {}).get(number)
        model = start_stage(
            stage, spec, data.train, model, seed=seed + number, running=running, fresh=not state
        )
        hooks.prepare(model, not best)
        decay = recipe.decay if stage.weight_decay is None else stage.weight_decay
        result = train_stage(
            model,
            stage.build_objective(model, spec),
            data,
            replace(recipe, decay=decay),
            sampler=stage.sampler,
            number=number,
            seed=seed,
            running=running,
            state=state,
            save=hooks.save,
            progress=hooks.progress,
        )
        best.append(result.best)
        history += result.history
    if model is None:
        raise ValueError(f"{method.name} has no stages")
    return Trained(model, tuple(best), tuple(history))


def start_stage(
    stage: StageSpec,
    spec: ModelSpec,
    images: Images,
    previous: LongTailModel | None,
    *,
    seed: int,
    running: Running = ON_CPU,
    fresh: bool = True,
) -> LongTailModel:
    """Build the model of a stage as it is before the first step."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = stage.build_model(spec, previous)
    if stage.centroids and fresh and previous is not None and isinstance(model.head, OLTRHead):
        model.to(running.device)
        means = direct_means(model, images, spec.num_classes, running)
        weight, bias = previous.head.linear()
        model.head.initialise(weight, bias, means.to(weight))
    return model


@torch.inference_mode()
def direct_means(model: LongTailModel, images: Images, classes: int, running: Running) -> Tensor:
    """Class means of direct features with test transforms, float32 of shape C x D.

    Each process sums its part of the images.

    Raises:
        InputError: If a class has no sample.
    """
    model.eval()
    sums = ClassSums(classes, model.network.width)
    for pixels, labels in images.plain(running.share(len(images)), BATCH, running.device):
        direct = running.forward(model, pixels).direct
        sums.add(direct.cpu().numpy(), labels.cpu().numpy())
    running.ranks.add_up(sums.sums, sums.counts)
    return first_centroids(sums)


def first_centroids(sums: ClassSums) -> Tensor:
    """Class means, with which the centroids start, float32 of shape C x D.

    Raises:
        InputError: If a class has no sample.
    """
    empty = np.flatnonzero(sums.counts == 0).tolist()
    if empty:
        more = f", ... ({len(empty)} in all)" if len(empty) > 4 else ""
        raise InputError(
            "some classes have no sample to start their centroid from",
            got="none of class " + ", ".join(map(str, empty[:4])) + more,
            expected="at least one training sample of every class",
            todo="leave these classes out of the data, or add samples",
        )
    return torch.from_numpy((sums.sums / sums.counts[:, None]).astype(np.float32))


def fit_head(
    method: MethodSpec, model: LongTailModel, images: ImageSplits, running: Running, *, seed: int
) -> LinearForm | None:
    """Fit the method's head on training features with test transforms."""
    if method.head_only is None:
        return None
    train = head_inputs(model, images.load("train"), running)
    val = head_inputs(model, images.load("val"), running)
    head = linear_head(*model.head.linear())
    size = len(images.classes)
    data = FitData(
        Features.of(train.features, train.labels, num_classes=size),
        Features.of(val.features, val.labels, num_classes=size),
        head,
        images.classes,
        # As in the papers' tables: chosen on validation, of which nothing is promised.
        Limits(max_overall_drop=2.0, confidence=0.5),
        seed,
    )
    fitted = fit_method(method.head_only, data).apply(head)
    scale = np.float32(fitted.scale)
    bias = None if fitted.bias is None else torch.from_numpy(fitted.bias * scale)
    return torch.from_numpy(fitted.weight * scale), bias


def require_validation(method: MethodSpec, splits: tuple[str, ...]) -> None:
    """Check that there are validation images for a method that needs them.

    Raises:
        InputError: If not.
    """
    if method.head_only is not None and "val" not in splits:
        raise InputError(
            f"{option('method', method.name)} chooses its settings on validation images",
            got=f"the splits {', '.join(splits)}",
            expected="a split val",
            todo=f"add one ({call('make-lt')} draws it), or choose another method",
        )
