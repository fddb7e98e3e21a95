"""A sweep that is checked and drawn, but not trained: all that planning needs."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from alphafix.alphanet.given import Given
from alphafix.alphanet.neighbors import warn_of_few
from alphafix.alphanet.pool import discriminant_rows, with_own
from alphafix.alphanet.sampling import Pool, samples_per_epoch
from alphafix.alphanet.scores import ScoreLayout, Scores, reduce_scores
from alphafix.alphanet.settings import LEAST_STEPS, FitSettings
from alphafix.alphanet.sources import Source, hold_out, renumbered, seen, whole
from alphafix.alphanet.specs import TrialSpec, all_specs, make_trial, neighbors_of
from alphafix.alphanet.trial import Hyper, SweepData, Trial
from alphafix.devices import choose_device
from alphafix.errors import InputError, MissingStageError, counted, option
from alphafix.features.features import Features
from alphafix.features.store import validation_from
from alphafix.progress import Progress
from alphafix.values.arrays import FloatArray, IntArray
from alphafix.values.classes import ClassTable
from alphafix.values.head import Head
from alphafix.values.neighbors import Neighbours

logger = logging.getLogger(__name__)

# Trials that train together. On a CPU more than ten gain only where the products of ten are small:
# up to so many first weights of all together.
MOST_TRIALS_CPU = 10
MOST_SMALL_TRIALS_CPU = 40
SMALL_WEIGHTS = 1 << 19
MOST_TRIALS_GPU = 256


@dataclass(frozen=True)
class SweepTask:
    """Everything that a sweep is made of.

    Attributes:
        settings: As they were given.
        classes: The class table.
        head: The head to correct.
        hyper: What all trials share.
        device: Where to train.
        specs: The T trials.
        trials: The same, drawn; their samples count among ``train``.
        pool: What they were drawn from, counted in the whole store.
        train: All training samples that any trial sees.
        val: Validation samples, or None.
        layout: Columns of the scores for the pools of all trials.
        own: Rows of the pools that are not of the head, float32 of shape F x D, with the ids C to
            C + F - 1; None where all are neighbours' rows.
    """

    settings: FitSettings
    classes: ClassTable
    head: Head
    hyper: Hyper
    device: torch.device
    specs: tuple[TrialSpec, ...]
    trials: list[Trial]
    pool: Pool
    train: Source
    val: Source | None
    layout: ScoreLayout
    own: FloatArray | None = None

    @classmethod
    def of(cls, given: Given, settings: FitSettings) -> SweepTask:
        """Check that the values fit together, and draw all trials (see `alphafix.alphanet.fit`)."""
        device = choose_device(settings.device)
        head, classes, neighbours = given.head, given.classes, given.neighbours
        # Validation features that are not used need not fit.
        (given if settings.holdout is None else replace(given, val=None)).check()
        kept, held = _samples(given.train, given.val, settings)
        if settings.select == "none":
            held = None
        elif held is not None and settings.select != "overall":
            _require_few(held, classes)
        hyper = settings.hyper_for(head, validated=held is not None)
        specs = all_specs(settings.rhos, settings.ks or (neighbours.k,), settings.seeds)
        pool = Pool.of(kept.labels, classes)
        # Positions among the training samples become positions in the store.
        pool = Pool(kept.index[pool.few], kept.index[pool.base], pool.starts, pool.sizes)
        metric = settings.metric or neighbours.metric
        near = _neighbors(specs, neighbours, classes, metric)
        own = None
        if settings.pool != "neighbors":
            own = discriminant_rows(kept, head, classes)
            near = [with_own(ids, len(classes)) for ids in near]
        trials = [
            make_trial(spec, ids, pool, hyper, drawn=metric == "random")
            for spec, ids in zip(specs, near, strict=True)
        ]
        index = seen(trials)
        layout = ScoreLayout.of(
            len(classes), classes.few, np.concatenate([ids.ravel() for ids in near])
        )
        return cls(
            settings=settings,
            classes=classes,
            head=head,
            hyper=hyper,
            device=device,
            specs=specs,
            trials=renumbered(trials, index),
            pool=pool,
            train=Source(given.train, index),
            val=held,
            layout=layout,
            own=own,
        )

    @property
    def pool_weight(self) -> FloatArray:
        """All rows that a pool can hold, float32 of shape C x D, or C + F with own rows."""
        head = self.head.weight
        return head if self.own is None else np.concatenate([head, self.own])

    def tell(self) -> None:
        """Log what there is to do, and a warning where a K is too small."""
        for k in sorted({spec.k for spec in self.specs}):
            warn_of_few(k)
        logger.info(
            "%s; an epoch of rho %g has %d samples, %d of them few-split",
            counted(len(self.trials), "trial"),
            self.specs[0].rho,
            samples_per_epoch(self.pool, self.specs[0].rho),
            len(self.pool.few),
        )
        fewest = min(trial.steps(self.hyper) for trial in self.trials)
        if self.settings.preset is not None and fewest < LEAST_STEPS * self.hyper.epochs:
            logger.warning(
                "a trial has only %d steps: the schedule of the preset %s is for larger data; "
                "without a preset, an epoch has at least %d steps",
                fewest,
                self.settings.preset,
                LEAST_STEPS,
            )

    @property
    def most_together(self) -> int:
        """Trials that train together at the most."""
        if self.device.type != "cpu":
            return MOST_TRIALS_GPU
        pool = max(trial.pool for trial in self.trials) + self.hyper.include_self
        small = SMALL_WEIGHTS // (pool * self.head.width * self.hyper.hidden[0])
        return min(max(small, MOST_TRIALS_CPU), MOST_SMALL_TRIALS_CPU)

    def reduced(self, progress: Progress) -> SweepData:
        """Read the samples once and reduce them to what training needs."""
        head, few, columns = self.head, self.classes.few, self.layout.columns
        rows = self.pool_weight
        positions = np.full(len(rows), -1, dtype=np.int64)
        positions[columns] = np.arange(len(columns))
        val = None
        train = self._scores(self.train, self.device, "training", progress)
        if self.val is not None:
            val = self.scores_by_class(self.val, "validation", progress)
        return SweepData(
            train=train,
            val=val,
            weight=torch.from_numpy(rows).to(self.device),
            biases=torch.from_numpy(head.bias_or_zeros[few]).to(self.device),
            scale=head.scale,
            few=torch.from_numpy(few).to(self.device),
            positions=torch.from_numpy(positions).to(self.device),
        )

    def scores_by_class(self, samples: Source, what: str, progress: Progress) -> Scores:
        """Scores to measure corrections on."""
        # Sparse products, which measuring uses, do not exist on Apple's GPUs.
        device = torch.device("cpu") if self.device.type == "mps" else self.device
        return self._scores(samples, device, what, progress, class_major=True)

    def _scores(
        self,
        samples: Source,
        device: torch.device,
        what: str,
        progress: Progress,
        *,
        class_major: bool = False,
    ) -> Scores:
        """Read the samples once and reduce them (see `reduce_scores`)."""
        with progress(f"scores of {what} samples", len(samples.index)) as advance:

            def counted() -> Iterator[tuple[FloatArray, IntArray]]:
                for features, labels in samples.chunks():
                    yield features, labels
                    advance(len(labels))

            return reduce_scores(
                counted(),
                len(samples.index),
                self.head,
                self.layout,
                own=self.own,
                device=device,
                memory=self.settings.memory,
                class_major=class_major,
            )


def _samples(
    train: Features, val: Features | None, settings: FitSettings
) -> tuple[Source, Source | None]:
    """Training and validation samples."""
    if settings.holdout is not None:
        kept, held = hold_out(train, settings.holdout, seed=settings.seeds[0])
        logger.info(
            "%d of %d training samples held out for validation%s",
            *(len(held.index), len(train)),
            "" if val is None else "; the features of val are not used",
        )
        return kept, held
    if val is None and settings.chooses:
        raise MissingStageError(
            "choosing a setting or an offset needs validation features",
            got="training features only",
            expected="features of the split val",
            todo=f"{validation_from(train)}, or hold training features out with "
            f"{option('holdout', 0.2)}, or train a single {option('rho')} without "
            f"{option('calibrate')}",
        )
    return whole(train), None if val is None else whole(val)


def _require_few(val: Source, classes: ClassTable) -> None:
    if not np.isin(val.labels, classes.few).any():
        raise InputError(
            "validation has no samples of few-split classes",
            got=f"{counted(len(val.labels), 'sample')}, all of other classes",
            expected="samples of few-split classes, for the rule to judge by",
            todo=f"add some, or use {option('select', 'overall')}, or {option('holdout', 0.2)}",
        )


def _neighbors(
    specs: Sequence[TrialSpec], given: Neighbours, classes: ClassTable, metric: str
) -> list[IntArray]:
    """The neighbours of each trial, F x K; the same array for trials that share them."""

    def found(spec: TrialSpec) -> IntArray:
        return neighbors_of(spec, given.means.astype(np.float64), classes, metric)

    if metric == "random":
        return [found(spec) for spec in specs]
    shared: dict[int, IntArray] = {given.k: given.ids} if metric == given.metric else {}
    for spec in specs:
        if spec.k not in shared:
            shared[spec.k] = found(spec)
    return [shared[spec.k] for spec in specs]
