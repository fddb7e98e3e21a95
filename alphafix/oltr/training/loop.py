"""Training of a base model, one stage at a time.

Every epoch is a pure function of the state before it and of seed, stage and number: samples,
augmentation and dropout are drawn anew from these. So a checkpoint at the end of an epoch is
all that is needed to go on exactly, and it holds no generators.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from alphafix.distributed import gather, is_distributed, share_buffers, summed
from alphafix.errors import InputError, option
from alphafix.metrics.accuracy import Accuracy
from alphafix.oltr.losses.objectives import Objective
from alphafix.oltr.models.heads import Output
from alphafix.oltr.training.images import TrainingData
from alphafix.oltr.training.recipes import StageRecipe
from alphafix.oltr.training.running import ON_CPU, Running, closed_accuracy
from alphafix.oltr.training.sampling import Epoch, Sampler, draw_epoch, require_samples
from alphafix.progress import Advance, Progress, silent

StageState = dict[str, Any]
"""Tensors, numbers, texts, and lists and dicts of them: what `torch.load` reads safely."""

EpochRecord = dict[str, Any]
"""Figures of one epoch: a line of metrics.jsonl."""


@dataclass(frozen=True)
class StageResult:
    """What a stage of training gives.

    Attributes:
        best: Number of the best epoch, from 1.
        history: Figures of each epoch.
    """

    best: int
    history: list[EpochRecord]


def train_stage(
    model: nn.Module,
    objective: Objective,
    data: TrainingData,
    stage: StageRecipe,
    *,
    sampler: Sampler = "plain",
    number: int = 1,
    seed: int = 0,
    running: Running = ON_CPU,
    state: StageState | None = None,
    save: Callable[[StageState], None] | None = None,
    progress: Progress = silent,
) -> StageResult:
    """Train a model in place by SGD, and give it the weights of its best epoch.

    The best epoch is the one with the highest overall closed-set accuracy on validation, the
    first of equals; the last of all where there is no validation set.

    Args:
        model: Maps images to an `Output`; parameters under ``head.`` have the rate of heads.
        objective: What is minimised, with parameters of its own if it has any.
        data: Training and validation images.
        stage: Epochs, rates and batch size.
        sampler: "plain" or "class_aware".
        number: Number of the stage, for what is random and for the records.
        seed: Seed of everything random.
        running: Device, precision and processes.
        state: What ``save`` was given by a training that was interrupted, to go on from.
        save: Given the whole state after every epoch.
        progress: Told of the steps.

    Raises:
        InputError: If a class has no sample, the batch cannot be shared out, a frozen part is
            not there, the state is of another model, or the loss is no number any more.
    """
    training = _Training(model, objective, data, stage, sampler, number, seed, running)
    if state is not None:
        training.load(state)
    steps = len(training.draw(0))
    with progress(f"stage {number}", stage.epochs * steps) as advance:
        advance(training.epoch * steps)
        while training.epoch < stage.epochs:
            training.run_epoch(advance)
            if save is not None:
                save(training.state())
    model.load_state_dict(training.best_weights)
    return StageResult(training.best, training.history)


class Step(nn.Module):
    """Images and labels to the loss: model and objective in one module, for DDP."""

    def __init__(self, model: nn.Module, objective: Objective, running: Running) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.running = running

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Loss of B samples."""
        output = gather_output(self.running.forward(self.model, images))
        labels = gather(labels)
        loss: Tensor = self.objective(output, labels)
        return loss


def gather_output(output: Output) -> Output:
    """What the model gave for the whole batch, from what it gave for each process's part.

    Every process computes the objective of the whole batch. So losses that compare the samples
    of a batch, and centroids that count them, are the same for any number of processes.
    """
    if not is_distributed():
        return output
    values = {field.name: getattr(output, field.name) for field in fields(output)}
    # The first axis of expert logits is the experts'.
    gathered = {
        name: gather(value, axis=1 if name == "expert_logits" else 0)
        for name, value in values.items()
        if isinstance(value, Tensor)
    }
    return replace(output, **gathered)


def parameter_groups(
    model: nn.Module, objective: Objective, stage: StageRecipe
) -> list[dict[str, Any]]:
    """Groups for SGD: features, head, and what the objective wants otherwise."""
    own = objective.parameter_groups()
    taken = {id(parameter) for group in own for parameter in group["params"]}
    learning = {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and id(parameter) not in taken
    }
    head = [p for name, p in learning.items() if name.startswith("head.")]
    features = [p for name, p in learning.items() if not name.startswith("head.")]
    rate = stage.lr if stage.feature_lr is None else stage.feature_lr
    groups: list[dict[str, Any]] = [
        {"name": "features", "params": features, "lr": rate},
        {"name": "head", "params": head, "lr": stage.lr},
        *({"name": "objective", **group} for group in own),
    ]
    return [{"rate": group["lr"], **group} for group in groups if group["params"]]


def freeze(model: nn.Module, parts: tuple[str, ...]) -> None:
    """Exclude parts of a model from training.

    Raises:
        InputError: If there is no such part.
    """
    for part in parts:
        frozen = [p for name, p in model.named_parameters() if name.startswith(part)]
        if not frozen:
            raise InputError(
                f"the model has no part {part} that could be frozen",
                expected=", ".join(name for name, _ in model.named_children()),
                todo="correct `frozen` in the recipe",
            )
        for parameter in frozen:
            parameter.requires_grad_(False)


class _Training:
    """One stage of training, as far as it has come."""

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        data: TrainingData,
        stage: StageRecipe,
        sampler: Sampler,
        number: int,
        seed: int,
        running: Running,
    ) -> None:
        require_samples(data.train.labels, len(data.classes), data.classes.names)
        require_equal_parts(min(stage.batch, len(data.train)), running.ranks.world)
        self.data, self.stage, self.sampler = data, stage, sampler
        self.number, self.seed, self.running = number, seed, running
        freeze(model, stage.frozen)
        model.to(running.device)
        model.to(memory_format=torch.channels_last)
        objective.to(running.device)
        self.model, self.objective = model, objective
        step = Step(model, objective, running)
        self.step: nn.Module = step
        if is_distributed():
            devices = [running.device] if running.device.type == "cuda" else None
            self.step = DistributedDataParallel(
                step,
                device_ids=devices,
                find_unused_parameters=self._has_unused_parameters(),
            )
        self.optimiser = torch.optim.SGD(
            parameter_groups(model, objective, stage),
            lr=stage.lr,
            momentum=stage.momentum,
            weight_decay=stage.decay,
            nesterov=stage.nesterov and stage.momentum > 0,
        )
        self.scaler = torch.amp.GradScaler(
            running.device.type, enabled=running.placement.precision == "fp16"
        )
        self.epoch = 0
        self.best = 0
        self.best_overall: float | None = None
        self.best_weights: dict[str, Tensor] = {}
        self.history: list[EpochRecord] = []

    def _has_unused_parameters(self) -> bool:
        """Whether no gradient reaches some parameter, as DDP has to know.

        Some backbones of timm keep parameters of the head that they are made without.
        """
        own = self.objective.parameter_groups()
        seen = {id(parameter) for group in own for parameter in group["params"]}
        two = np.arange(min(2, len(self.data.train)), dtype=np.int64)
        (images, _), *_ = self.data.train.plain(two, 2, self.running.device)
        self.model.eval()
        logits = self.running.forward(self.model, images).logits
        if not logits.requires_grad:
            return False  # a router learns, and nothing else
        torch.autograd.backward(logits.sum())
        unused = [
            parameter
            for parameter in self.model.parameters()
            if parameter.requires_grad and parameter.grad is None and id(parameter) not in seen
        ]
        self.model.zero_grad(set_to_none=True)
        return bool(unused)

    def draw(self, epoch: int) -> Epoch:
        """This process's share of the samples of an epoch."""
        drawn = draw_epoch(
            self.data.train.labels,
            sampler=self.sampler,
            batch=self.stage.batch,
            seed=self.seed,
            stage=self.number,
            epoch=epoch,
            per_class=self.stage.per_class,
        )
        return drawn.part(self.running.ranks.rank, self.running.ranks.world)

    def run_epoch(self, advance: Advance) -> None:
        """Train and validate once."""
        started = time.monotonic()
        device = self.running.device
        with (
            torch.random.fork_rng([device] if device.type == "cuda" else []),
            # The same algorithms each time: going on must give what not stopping had given.
            torch.backends.cudnn.flags(benchmark=False, deterministic=True),
        ):
            torch.manual_seed(_mixed(self.seed, self.number, self.epoch, self.running.ranks.rank))
            loss = self._train(advance)
        if not np.isfinite(loss):
            raise InputError(
                f"training diverged in epoch {self.epoch + 1} of stage {self.number}",
                got=f"a loss of {loss}",
                expected="a finite loss",
                todo=f"lower the learning rate ({option('lr')})",
            )
        share_buffers(self.model)
        self.epoch += 1
        record: EpochRecord = {
            "stage": self.number,
            "epoch": self.epoch,
            "loss": loss,
            "lr": {group["name"]: group["lr"] for group in self.optimiser.param_groups},
            "val": self._validate(),
        }
        record["seconds"] = round(time.monotonic() - started, 3)
        self.history.append(record)

    def _train(self, advance: Advance) -> float:
        """Run all steps of an epoch; return the mean loss."""
        self._train_mode()
        self.objective.begin_epoch(self.epoch / self.stage.epochs)
        epoch = self.draw(self.epoch)
        total = torch.zeros((), dtype=torch.float64, device=self.running.device)
        for count, (images, labels) in enumerate(self.data.train.training(epoch, total.device)):
            self._set_rates(self.epoch + count / len(epoch))
            self.optimiser.zero_grad(set_to_none=True)
            loss = self.step(images, labels)
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimiser)
            self.scaler.update()
            total += loss.detach()
            advance(1)
        return float(summed(total)) / self.running.ranks.world / len(epoch)

    def _train_mode(self) -> None:
        self.step.train()
        if not self.stage.frozen_norm:
            return
        for name, module in self.model.named_modules():
            if any(name.startswith(part) for part in self.stage.frozen):
                module.eval()

    def _set_rates(self, progress: float) -> None:
        factor = self.stage.factor(progress)
        for group in self.optimiser.param_groups:
            group["lr"] = group["rate"] * factor

    def _validate(self) -> Accuracy | None:
        """Validate, and keep the weights if they are the best so far."""
        found = None
        if self.data.val is not None:
            batch = max(self.stage.batch, 64)
            val, classes = self.data.val, self.data.classes
            found = closed_accuracy(self.model, val, classes, self.running, batch=batch)
        overall = None if found is None else found["overall"]
        if overall is None or self.best_overall is None or overall > self.best_overall:
            self.best, self.best_overall = self.epoch, overall
            self.best_weights = _copied(self.model)
        return found

    def state(self) -> StageState:
        """All that is needed to go on (or, for what is not the first process, nothing less)."""
        return {
            "stage": self.number,
            "epoch": self.epoch,
            "model": _copied(self.model),
            "objective": _copied(self.objective),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "best": self.best,
            "best_overall": self.best_overall,
            "best_weights": self.best_weights,
            "history": copy.deepcopy(self.history),
        }

    def load(self, state: StageState) -> None:
        """Go on from where `state` was taken.

        Raises:
            InputError: If it is of another stage or model.
        """
        try:
            if state["stage"] != self.number:
                raise ValueError(f"stage {state['stage']}, expected {self.number}")
            self.model.load_state_dict(state["model"])
            self.objective.load_state_dict(state["objective"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.scaler.load_state_dict(state["scaler"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise InputError(
                "the checkpoint does not fit this training",
                got=str(error),
                expected="the state of the same model, objective and stage",
                todo=f"give {option('overwrite', True)} to begin again",
            ) from error
        self.epoch, self.best = state["epoch"], state["best"]
        self.best_overall = state["best_overall"]
        self.best_weights = dict(state["best_weights"])
        self.history = list(state["history"])


def _copied(module: nn.Module) -> dict[str, Tensor]:
    """A copy of all tensors on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}


def _mixed(*numbers: int) -> int:
    """One seed of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1


def require_equal_parts(batch: int, world: int) -> None:
    """Check that a batch can be shared out.

    Raises:
        InputError: If it is no multiple of the number of processes.
    """
    if batch % world:
        raise InputError(
            "a batch cannot be shared out evenly",
            got=f"a batch of {batch}, {world} processes",
            expected="a multiple of the number of processes",
            todo=f"change {option('batch_size')}, which is that of all processes together",
        )
