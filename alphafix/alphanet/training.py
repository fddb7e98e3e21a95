"""Training a batch of trials together, a part of them in each of a few threads."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch

from alphafix.alphanet.batch import Batch, Entering
from alphafix.alphanet.trial import (
    Epoch,
    Hyper,
    SweepData,
    TrainedTrial,
    Trial,
    Watch,
    unwatched,
)
from alphafix.progress import Advance
from alphafix.threads import Workers

# What is not in products, a thread does while the others wait, so that parts pay only where the
# products of each are long: where it has this many first weights (measured).
LEAST_WEIGHTS = 3 << 19
MOST_PARTS = 4


def train_batch(
    trials: Sequence[Trial],
    data: SweepData | Sequence[SweepData],
    hyper: Hyper,
    *,
    advance: Advance,
    watch: Watch = unwatched,
) -> list[TrainedTrial]:
    """Train trials with the same K together.

    A trial's result does not depend on the others (see `Batch`).

    Args:
        trials: T trials with equal K.
        data: Samples and head; or those of each trial, where the trials are of several heads on the
            same samples, whose scores are then kept as tables with the same columns.
        hyper: What they share.
        advance: Called with the number of trial steps done, by one thread at a time.
        watch: Told every epoch that may be chosen, by one thread at a time.
    """
    order = sorted(range(len(trials)), key=lambda i: -trials[i].steps(hyper))
    own = [data] * len(trials) if isinstance(data, SweepData) else [data[i] for i in order]
    entering = Entering.of([trials[i] for i in order], own, hyper)
    training = _Training(entering, order, hyper, advance, watch)
    parts = _parts(entering, hyper)
    if parts == 1:
        trained = training.part(slice(None))
    else:
        # Every so-many-th trial, so that all parts are of trials as long.
        every = [slice(start, None, parts) for start in range(parts)]
        with Workers(parts, training.stopped.set) as workers:
            found = workers.do_all(partial(training.part, which) for which in every)
        trained = {place: one for part in found for place, one in part.items()}
    return [trained[place] for place in range(len(trials))]


class _Training:
    """Trials in their order, some of which are trained by each of several threads."""

    def __init__(
        self, entering: Entering, order: Sequence[int], hyper: Hyper, advance: Advance, watch: Watch
    ) -> None:
        self.entering, self.order, self.hyper = entering, order, hyper
        self.stopped = threading.Event()
        self._advance, self._watch, self._telling = advance, watch, threading.Lock()

    @torch.inference_mode()  # gradients are worked out by hand
    def part(self, which: slice) -> dict[int, TrainedTrial]:
        """Train some; what became of each, by its place among the trials as they were given."""
        places = self.order[which]

        def watch(epoch: Epoch) -> None:
            with self._telling:
                self._watch(replace(epoch, trial=places[epoch.trial]))

        batch = Batch(self.entering.only(which), self.hyper, watch)
        for step in range(batch.total_steps):
            if self.stopped.is_set():
                break
            done = batch.step(step)
            with self._telling:
                self._advance(done)
        return dict(zip(places, batch.results, strict=True))


def _parts(entering: Entering, hyper: Hyper) -> int:
    """How many threads train a part of the trials each.

    Threads that train trials of their own need not wait for each other in each small product, as
    those of one product do: beside other processes, these make it many times as slow.
    """
    if entering.train.labels.device.type != "cpu":
        return 1
    trials = len(entering.trials)
    pays = trials * entering.inputs.width * hyper.hidden[0] // LEAST_WEIGHTS
    return max(1, min(pays, trials, torch.get_num_threads(), MOST_PARTS))
