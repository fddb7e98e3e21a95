"""A batch of trials, trained step by step, each as if it were alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from alphafix.alphanet.correction import Correction, correction_of
from alphafix.alphanet.inputs import Inputs, inputs_of
from alphafix.alphanet.network import Networks, alphas, backward, forward, initial_networks
from alphafix.alphanet.objective import Aims, correct_predictions, losses_and_slopes
from alphafix.alphanet.padding import padded_classes
from alphafix.alphanet.scores import Scores, join_scores
from alphafix.alphanet.trial import Epoch, Hyper, SweepData, TrainedTrial, Trial, Watch
from alphafix.values.trials import EpochRecord

# Steps are padded to this many samples, for the reason given at `padding.ALIGNED`: PyTorch's
# loops take four vector registers at a time and treat what is left differently.
SAMPLES_ALIGNED = 64


@dataclass(frozen=True)
class Entering:
    """What T trials, those with the most steps first, are trained on.

    Attributes:
        trials: They.
        own: Samples and head of each.
        train: The training samples of all heads.
        starts: Where those of each trial begin among them.
        positions: Columns of the neighbours in the scores, int64 of shape T x F' x K, or
            1 x F' x K if they are all trials'.
        inputs: What enters the networks.
    """

    trials: Sequence[Trial]
    own: Sequence[SweepData]
    train: Scores
    starts: Sequence[int]
    positions: Tensor
    inputs: Inputs

    @classmethod
    def of(cls, trials: Sequence[Trial], own: Sequence[SweepData], hyper: Hyper) -> Entering:
        """Collect it."""
        first = own[0]
        train, starts = join_scores([one.train for one in own])
        neighbors = torch.from_numpy(np.stack([trial.neighbors for trial in trials]))
        neighbors = neighbors.to(first.weight.device)
        if bool((neighbors == neighbors[:1]).all()):
            neighbors = neighbors[:1]
        positions = padded_classes(first.positions[neighbors])
        inputs = _inputs(neighbors, own, include_self=hyper.include_self)
        return cls(trials, own, train, starts, positions, inputs)

    def only(self, which: slice) -> Entering:
        """That of some of the trials, sharing memory with all."""
        positions = self.positions[which] if len(self.positions) > 1 else self.positions
        return Entering(
            trials=self.trials[which],
            own=self.own[which],
            train=self.train,
            starts=self.starts[which],
            positions=positions,
            inputs=self.inputs.only(which),
        )


class Batch:
    """T trials, those with the most steps first, so that the active ones are a prefix.

    A trial's result does not depend on the others: every product is over its own slice, its
    samples and its initial network come from its own seed, and once it has made its steps
    its slice is no longer touched.

    Args:
        entering: The trials, and what they are trained on.
        hyper: What they share.
        watch: Told every epoch that may be chosen.
    """

    def __init__(self, entering: Entering, hyper: Hyper, watch: Watch) -> None:
        self.trials, self.own = trials, own = entering.trials, entering.own
        self.hyper, self.watch = hyper, watch
        first = own[0]
        self.total_steps = trials[0].steps(hyper)
        self.per_epoch = [trial.steps_per_epoch(hyper) for trial in trials]
        self.steps = [trial.steps(hyper) for trial in trials]
        device = first.weight.device
        self.index, self.share = _step_samples(trials, hyper, device)
        self.index += torch.tensor(entering.starts, device=device)[:, None, None]
        self.train, self.positions, self.inputs = (
            entering.train,
            entering.positions,
            entering.inputs,
        )
        self.near = self.positions.transpose(1, 2).contiguous()
        self.aims = Aims.of(self.train, self.index, len(first.few))
        biases = torch.stack([one.biases for one in own])
        self.scales = torch.tensor([[one.scale] for one in own], device=device)
        drawn = initial_networks(
            [trial.seed for trial in trials],
            biases,
            inputs=self.inputs.width,
            hidden=hyper.hidden,
            k=trials[0].pool,
        )
        self.networks, parameters = drawn.packed()
        self.gradients, slopes = drawn.map(torch.zeros_like).packed()
        trained = slice(None if hyper.learn_bias else -1)
        self.trained, self.slopes = parameters[trained], slopes[trained]
        self.moments = [[torch.zeros_like(one) for one in self.trained] for _ in range(2)]
        self.count = torch.zeros((), device=device)
        none = biases.new_zeros(len(first.few), trials[0].pool)  # until an epoch is chosen
        self.results = [TrainedTrial(none, one.biases) for one in own]
        # In float64 where there is such a thing, because sums of float32 are rounded
        # differently in other batches; what is recorded is rounded back.
        wide = torch.float32 if device.type == "mps" else torch.float64
        self.losses = torch.zeros(len(trials), dtype=wide, device=device)
        self.work = _Work.of(self, len(trials))

    def step(self, step: int) -> int:
        """Make one step of every trial that is not done; return their number."""
        active = sum(steps > step for steps in self.steps)
        self._find_gradients(active, step)
        self._update(active, step)
        ended = [
            trial
            for trial in range(active)
            if (step + 1) % self.per_epoch[trial] == 0 or step + 1 == self.steps[trial]
        ]
        if ended:
            self._end_epoch(ended, step)
        return active

    def _find_gradients(self, active: int, step: int) -> None:
        """Gradients of the mean loss of a step by the parameters; counts the losses."""
        if active != self.work.active:
            self.work = _Work.of(self, active)
        work = self.work
        rows = self.train.columns.of_samples(work.index[step], work.rows)
        found = forward(work.networks, work.inputs)
        biases = work.networks.biases * work.scales
        few = work.correction.scores(rows, found.alphas, biases)
        losses, slopes = losses_and_slopes(few, work.aims[step], work.share[step])
        work.losses.add_(losses.sum(1, dtype=work.losses.dtype))
        pulls = work.correction.pulls(rows, slopes)
        backward(work.networks, work.inputs, found, pulls, work.gradients)
        torch.sum(slopes, 1, out=work.gradients.biases).mul_(work.scales)

    def _update(self, active: int, step: int) -> None:
        """AdamW, once for each run of neighbouring trials with the same learning rate."""
        self.count += 1
        rates = [self._rate(trial, step) for trial in range(active)]
        edges = [0, *(i for i in range(1, active) if rates[i] != rates[i - 1]), active]
        for start, stop in pairwise(edges):
            tensors, slopes, first, second = self.work.updated(start, stop)
            # What torch.optim.AdamW(fused=True) calls, without its preparations, which take as
            # long as the update of a small network.
            torch._fused_adamw_(
                tensors,
                slopes,
                first,
                second,
                [],
                [self.count] * len(tensors),
                amsgrad=False,
                beta1=0.9,
                beta2=0.999,
                lr=rates[start],
                weight_decay=self.hyper.weight_decay,
                eps=1e-8,
                maximize=False,
            )

    def _rate(self, trial: int, step: int) -> float:
        epoch = step // self.per_epoch[trial]
        return self.hyper.lr * 0.1 ** (epoch // self.hyper.decay_every)

    def _end_epoch(self, ended: Sequence[int], step: int) -> None:
        """Record the epoch of these trials, and keep their alphas if they are the best yet."""
        active = ended[-1] + 1
        found = alphas(self.networks.first(active), self.inputs.only(slice(active)))
        for trial in ended:
            epoch = -(-(step + 1) // self.per_epoch[trial])
            # A budget of steps can end a trial before the first epoch that may be chosen.
            last = step + 1 == self.steps[trial]
            steps = step % self.per_epoch[trial] + 1
            loss, val_overall = float((self.losses[trial] / steps).float()), None
            self.losses[trial] = 0
            if epoch >= self.hyper.first_epoch or last:
                val_overall = self._consider(trial, epoch, found[trial])
            self.results[trial].history.append(EpochRecord(epoch, loss, val_overall))

    def _consider(self, trial: int, epoch: int, found: Tensor) -> float | None:
        """Keep an epoch if it is the best yet; return its share of correct predictions."""
        one = self.results[trial]
        own = self.own[trial]
        few = len(own.few)
        found, biases = found[:few], self.networks.biases[trial, :few]
        correct = share = None
        val = own.val
        if val is not None:
            there = val.labels.device
            positions = self.positions[trial if len(self.positions) > 1 else 0, :few]
            scaled = biases * own.scale
            correct = correct_predictions(
                val, positions.to(there), found.to(there), scaled.to(there)
            )
            share = float(correct.float().mean())
        self.watch(Epoch(trial, epoch, found, biases, correct))
        # Strictly greater: a tie keeps the earlier epoch.
        if correct is not None and one.correct is not None and correct.sum() <= one.correct.sum():
            return share
        one.alphas, one.biases = found.clone(), biases.clone()
        one.epoch, one.correct = epoch, correct
        return share


@dataclass(frozen=True)
class _Work:
    """What is at hand in every step of the first trials of a batch, made once for all steps.

    New memory, and a view of old, cost a step as much as its small operations.

    Attributes:
        active: How many trials.
        networks: Theirs.
        gradients: By the parameters of these.
        inputs: What enters the networks.
        scales: Logit scales, A x 1.
        correction: How their scores are corrected.
        losses: Sums of the epoch's losses so far, A.
        index: Indices of each step's samples, A x n.
        share: Their shares in a step's mean, A x n.
        aims: What they are to be taken for.
        rows: Memory for a step's scores, A x n x U.
        states: Parameters, gradients and both moments, as they are updated.
        parts: Those of some of the trials, once they were asked for.
    """

    active: int
    networks: Networks
    gradients: Networks
    inputs: Inputs
    scales: Tensor
    correction: Correction
    losses: Tensor
    index: Sequence[Tensor]
    share: Sequence[Tensor]
    aims: Sequence[Aims]
    rows: Tensor
    states: Sequence[Sequence[Tensor]]
    parts: dict[tuple[int, int], list[list[Tensor]]] = field(default_factory=dict)

    @classmethod
    def of(cls, batch: Batch, active: int) -> _Work:
        """That of the first ``active`` trials."""
        samples, columns = batch.index.shape[-1], len(batch.train.columns.weight)
        positions = batch.near[:active].expand(active, -1, -1)
        return cls(
            active=active,
            networks=batch.networks.first(active),
            gradients=batch.gradients.first(active),
            inputs=batch.inputs.only(slice(active)),
            scales=batch.scales[:active],
            correction=correction_of(
                positions, classes=len(batch.own[0].few), columns=columns, samples=samples
            ),
            losses=batch.losses[:active],
            index=batch.index[:active].unbind(1),
            share=batch.share[:active].unbind(1),
            aims=batch.aims.by_step(active),
            rows=batch.networks.biases.new_empty(active, samples, columns),
            states=(batch.trained, batch.slopes, *batch.moments),
        )

    def updated(self, start: int, stop: int) -> list[list[Tensor]]:
        """`states` of the trials from ``start`` to ``stop``."""
        if (start, stop) not in self.parts:
            self.parts[start, stop] = [[one[start:stop] for one in state] for state in self.states]
        return self.parts[start, stop]


def _step_samples(
    trials: Sequence[Trial], hyper: Hyper, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Sample indices of each step and the share of each in the step's mean, T x steps x batch.

    The last step of a pass has fewer samples; its padding has share 0.
    """
    steps, size = trials[0].steps(hyper), hyper.batch_size
    width = size + (-size % SAMPLES_ALIGNED)
    index = np.zeros((len(trials), steps, width), dtype=np.int64)
    share = np.zeros((len(trials), steps, width), dtype=np.float32)
    for place, trial in enumerate(trials):
        per_pass, wanted = trial.steps_per_pass(hyper), trial.samples.shape[1]
        padded = np.full((len(trial.samples), per_pass * size), -1, dtype=np.int64)
        padded[:, :wanted] = trial.samples
        rows = padded.reshape(-1, size)[:steps]
        index[place, : len(rows), :size] = np.maximum(rows, 0)
        real = rows >= 0
        share[place, : len(rows), :size] = real / real.sum(1, keepdims=True)
    return torch.from_numpy(index).to(device), torch.from_numpy(share).to(device)


def _inputs(neighbors: Tensor, own: Sequence[SweepData], *, include_self: bool) -> Inputs:
    """The networks' input: rows of neighbours, T x F x K (or 1 x ... if all trials share them)."""
    if include_self:
        selves = own[0].few.expand(len(neighbors), -1)[..., None]
        neighbors = torch.cat([selves, neighbors], dim=2)
    heads = own[:1] if all(one is own[0] for one in own) else own
    return inputs_of([one.weight for one in heads], neighbors)
