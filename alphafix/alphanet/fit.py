"""AlphaNet from values to a correction: what `alphafix train` does, without any disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from alphafix.alphanet.combine import Combination, Judge, combinations
from alphafix.alphanet.given import Given
from alphafix.alphanet.kept import Keep
from alphafix.alphanet.padding import room
from alphafix.alphanet.scores import bytes_of_table
from alphafix.alphanet.settings import FitSettings
from alphafix.alphanet.sweep import run_on_heads, run_sweep
from alphafix.alphanet.task import SweepTask
from alphafix.alphanet.trial import SweepData
from alphafix.errors import InputError
from alphafix.metrics.selection import Rule
from alphafix.metrics.trade_off import Path
from alphafix.progress import Progress, silent
from alphafix.threads import beside_others
from alphafix.values.correction import Chosen, Correction
from alphafix.values.head import Head
from alphafix.values.trials import Trials


def fit(
    given: Given,
    settings: FitSettings,
    *,
    keep: Keep | None = None,
    progress: Progress = silent,
) -> Correction:
    """Train AlphaNet and choose a correction of the few-split rows.

    Where none beats the base model on the samples that it was chosen on, the correction is the
    base model (see `Correction.is_base`), unless ``settings.allow_worse``.

    Args:
        given: Features, head, class table and neighbours.
        settings: How.
        keep: Where finished trials are kept, so that an interrupted sweep continues.
        progress: Told samples and steps.

    Raises:
        InputError: If the values or settings do not fit together.
        MissingStageError: If something is to be chosen and there are no validation samples.
    """
    task = SweepTask.of(given, settings)
    task.tell()
    # Results are the same with any number of threads.
    with beside_others():
        data = task.reduced(progress)
        return _chosen(task, data, run_sweep(task, data, keep, progress), progress)


def train_trials(
    given: Given,
    settings: FitSettings,
    *,
    keep: Keep | None = None,
    progress: Progress = silent,
) -> Trials:
    """Train all trials and choose none (for the arguments see `fit`)."""
    task = SweepTask.of(given, settings)
    return run_sweep(task, task.reduced(progress), keep, progress)


def train_on_heads(
    given: Given,
    heads: Sequence[Head],
    settings: FitSettings,
    *,
    keeps: Sequence[Keep | None],
    progress: Progress = silent,
) -> list[Trials]:
    """Train the same trials on several heads for the same features, and choose none.

    Args:
        given: For the arguments see `fit`; its head is not used.
        heads: One or more.
        settings: How; of one K, and with neighbours' rows alone in the pool.
        keeps: Where the finished trials of each head are kept, if anywhere.
        progress: Told samples and steps.

    Raises:
        InputError: If the pool holds other rows, or there are several K.
    """
    if settings.pool != "neighbors" or len(settings.ks) > 1:
        raise InputError("several heads are trained with one K and neighbours' rows alone")
    first = SweepTask.of(replace(given, head=heads[0]), settings)
    validated = first.val is not None
    tasks = [
        replace(first, head=head, hyper=settings.hyper_for(head, validated=validated))
        for head in heads
    ]
    return run_on_heads(tasks, keeps, progress)


def _chosen(task: SweepTask, data: SweepData, trials: Trials, progress: Progress) -> Correction:
    settings, head, few = task.settings, task.head, task.classes.few
    offered = combinations(trials, ensemble=settings.ensemble)
    if data.val is not None:
        return _validated(task, Judge(data.val, task.layout, head, task.classes), trials, offered)
    found = offered[0]
    chosen = Chosen(found.settings(trials, None, settings.ensemble))
    if settings.check_training and not _as_good_in_training(task, found, progress):
        why = "the correction is worse than it on the training samples as they were drawn"
        base = Correction.none(head, few, chosen, "alphanet", why=why)
        return replace(base, trials=trials)
    biases = found.biases if task.hyper.learn_bias else None
    return Correction(few, found.rows(head.weight, few), biases, chosen=chosen, trials=trials)


def _validated(
    task: SweepTask, judge: Judge, trials: Trials, offered: Sequence[Combination]
) -> Correction:
    """The combination that validation chooses; the base model where none beats that."""
    settings, head, few = task.settings, task.head, task.classes.few
    rule = Rule(settings.select, judge.base, settings.limits)
    paths = [Path(judge.contest(one), free=settings.calibrate) for one in offered]
    choice = judge.choose(paths, rule, seed=settings.seeds[0])
    found = choice.found or choice.safest
    result = paths[found.place].contest
    one = offered[found.place].shifted(found.offset, head.scale)
    curve = judge.curve(result, rule)
    chosen = Chosen(
        {
            **one.settings(trials, rule, settings.ensemble),
            "curve": curve.outline() if settings.calibrate else None,
        },
        judge.accuracy(result, found.offset),
        judge.base,
        promise=None if choice.promise is None else choice.promise.to_dict(),
    )
    if choice.found is None and not settings.allow_worse:
        why = f"no correction beats it on validation ({rule.describe()})"
        unchanged = replace(chosen, val=judge.base)
        base = Correction.none(head, few, unchanged, "alphanet", why=why)
        bias_alone = judge.curve(judge.base_contest, rule)
        return replace(base, trials=trials, curve=bias_alone.shifted(0.0))
    return Correction(
        classes=few,
        rows=one.rows(head.weight, few),
        biases=one.biases if task.hyper.learn_bias or settings.calibrate else None,
        chosen=chosen,
        trials=trials,
        curve=curve.shifted(0.0),
    )


def _as_good_in_training(task: SweepTask, found: Combination, progress: Progress) -> bool:
    """Whether the chosen trials are as good as the base model on the samples that they saw."""
    samples = task.scores_by_class(task.train, "training", progress)
    drawn = np.concatenate([task.trials[place].samples.ravel() for place in found.trials])
    judge = Judge(samples, task.layout, task.head, task.classes, drawn)
    after, before = judge.accuracy(judge.contest(found)), judge.base
    return (after["overall"] or 0.0) >= (before["overall"] or 0.0)


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
    inputs = head.width * (max(trial.pool for trial in task.trials) + task.hyper.include_self)
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
            "network input": 4 * (few + room(few)) * inputs * (1 if shared else together),
            "networks and AdamW": 4 * parameters,
            "samples of all epochs": sum(trial.samples.nbytes for trial in task.trials),
        },
    )
