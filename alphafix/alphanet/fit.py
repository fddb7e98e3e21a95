"""AlphaNet from values to a correction: what `alphafix train` does, without any disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from alphafix.alphanet.combine import (
    Combination,
    Judge,
    choose,
    combinations,
    require_no_worse,
)
from alphafix.alphanet.given import Given
from alphafix.alphanet.kept import Keep
from alphafix.alphanet.network import padding
from alphafix.alphanet.scores import bytes_of_table
from alphafix.alphanet.settings import FitSettings
from alphafix.alphanet.sweep import run_sweep
from alphafix.alphanet.task import SweepTask
from alphafix.alphanet.training import SweepData
from alphafix.metrics.selection import Rule
from alphafix.progress import Progress, silent
from alphafix.values.correction import Correction
from alphafix.values.trials import Trials


def fit(
    given: Given,
    settings: FitSettings,
    *,
    keep: Keep | None = None,
    progress: Progress = silent,
) -> Correction:
    """Train AlphaNet and choose a correction of the few-split rows.

    Args:
        given: Features, head, class table and neighbours.
        settings: How.
        keep: Where finished trials are kept, so that an interrupted sweep continues.
        progress: Told samples and steps.

    Raises:
        InputError: If the values or settings do not fit together.
        MissingStageError: If something is to be chosen and there are no validation samples.
        NoCorrectionError: If no trained setting keeps the limit, or with
            ``settings.never_worse`` none is as good as the base model.
    """
    task = SweepTask.of(given, settings)
    task.tell()
    data = task.reduced(progress)
    return _chosen(task, data, run_sweep(task, data, keep, progress), progress)


def train_trials(given: Given, settings: FitSettings, *, progress: Progress = silent) -> Trials:
    """Train all trials and choose none (for the arguments see `fit`)."""
    task = SweepTask.of(given, settings)
    return run_sweep(task, task.reduced(progress), None, progress)


def _chosen(task: SweepTask, data: SweepData, trials: Trials, progress: Progress) -> Correction:
    settings, head, few = task.settings, task.head, task.classes.few
    offered = combinations(trials, ensemble=settings.ensemble)
    if data.val is None:
        chosen, rule = offered[0], None
        if settings.never_worse:
            _require_no_worse_in_training(task, chosen, progress)
    else:
        judge = Judge(data.val, task.layout, head, task.classes)
        rule = Rule(settings.select, judge.base, settings.max_overall_drop)
        chosen = choose(
            [judge.measured(one, rule, calibrate=settings.calibrate) for one in offered], rule
        )
        if settings.never_worse and chosen.val is not None:
            require_no_worse(chosen.val, rule, "validation")
    return Correction(
        classes=few,
        rows=chosen.rows(head.weight, few),
        biases=chosen.biases if task.hyper.learn_bias or settings.calibrate else None,
        chosen=chosen.describe(trials, rule, settings.ensemble),
        trials=trials,
    )


def _require_no_worse_in_training(task: SweepTask, chosen: Combination, progress: Progress) -> None:
    """Check the chosen trials on the training samples, each as often as they have seen it."""
    samples = task.scores_by_class(task.train, "training", progress)
    drawn = np.concatenate([task.trials[place].samples.ravel() for place in chosen.trials])
    judge = Judge(samples, task.layout, task.head, task.classes, drawn)
    rule = Rule(task.settings.select, judge.base, task.settings.max_overall_drop)
    require_no_worse(judge.accuracy(chosen), rule, "the training samples as they were drawn")


@dataclass(frozen=True)
class SweepPlan:
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


def plan(given: Given, settings: FitSettings) -> SweepPlan:
    """What `fit` would do with these arguments, without training."""
    task = SweepTask.of(given, settings)
    task.tell()
    together = min(task.most_together, len(task.trials))
    head, few = given.head, len(given.classes.few)
    inputs = head.width * (max(spec.k for spec in task.specs) + task.hyper.include_self)
    parameters = inputs * task.hyper.hidden[0] * 4 * together
    # Trials with neighbours of their own have inputs of their own.
    shared = all((t.neighbors == task.trials[0].neighbors).all() for t in task.trials)

    def held(samples: int) -> int:
        table = bytes_of_table(samples, task.layout)
        return table if table <= settings.memory else 4 * head.width * samples

    return SweepPlan(
        trials=len(task.trials),
        steps=sum(trial.steps(task.hyper) for trial in task.trials),
        samples=len(task.train.index),
        bytes={
            "training scores": held(len(task.train.index)),
            "validation scores": held(0 if task.val is None else len(task.val.index)),
            "network input": 4 * (few + padding(few)) * inputs * (1 if shared else together),
            "networks and AdamW": 4 * parameters,
            "samples of all epochs": sum(trial.samples.nbytes for trial in task.trials),
        },
    )
