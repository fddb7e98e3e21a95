"""A batch of trials, trained step by step, each as if it were alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from alphafix.alphanet.correction import Correction, correction_of
from alphafix.alphanet.inputs import Inputs, inputs_of
from alphafix.alphanet.network import Networks, Passes, initial_networks
from alphafix.alphanet.objective import Aims, Slopes, correct_predictions
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
        drawn = any(trial.drawn for trial in trials)
        if not drawn and bool((neighbors == neighbors[:1]).all()):
            neighbors = neighbors[:1]
        positions = padded_classes(first.positions[neighbors])
        inputs = _inputs(neighbors, own, drawn=drawn, include_self=hyper.include_self)
        return cls(trials, own, train, starts, positions, inputs)

    def positions_of(self, trial: int) -> Tensor:
        """Columns of a trial's neighbours, int64 of shape F' x K."""
        return self.positions[trial if len(self.positions) > 1 else 0]

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
        self.entering, self.hyper, self.watch = entering, hyper, watch
        first_data = own[0]
        self.total_steps = trials[0].steps(hyper)
        self.per_epoch = [trial.steps_per_epoch(hyper) for trial in trials]
        self.steps = [trial.steps(hyper) for trial in trials]
        device = first_data.weight.device
        self.index, share = _step_samples(trials, hyper, device)
        self.index += torch.tensor(entering.starts, device=device)[:, None]
        self.aims = Aims.of(entering.train, self.index, share, len(first_data.few))
        self.logs = torch.empty_like(self.aims.total)
        biases = torch.stack([one.biases for one in own])
        self.scales = torch.tensor([[one.scale] for one in own], device=device)
        self.unscaled = all(one.scale == 1 for one in own)
        drawn = initial_networks(
            [trial.seed for trial in trials],
            biases,
            inputs=entering.inputs.width,
            hidden=hyper.hidden,
            k=trials[0].pool,
        )
        trained = slice(None if hyper.learn_bias else -1)
        zeros = [drawn.map(torch.zeros_like) for _ in range(3)]
        states, packed = zip(*(one.packed() for one in [drawn, *zeros]), strict=True)
        self.networks, self.gradients = states[:2]
        # Parameters, gradients and moments of trials from one to another, as they are updated.
        self.parts = {(0, len(trials)): [one[trained] for one in packed]}
        self.states, self.trained = states, trained
        self.counts = torch.arange(1, self.total_steps + 1, dtype=torch.float32, device=device)
        none = biases.new_zeros(len(first_data.few), trials[0].pool)  # until an epoch is chosen
        self.results = [TrainedTrial(none, one.biases) for one in own]
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
        """Gradients of the mean loss of a step by the parameters; keeps what it is made of."""
        if active != self.work.active:
            self.work = _Work.of(self, active)
        work = self.work
        self.entering.train.columns.of_samples(work.index[step], work.rows)
        biases = work.networks.biases if self.unscaled else work.networks.biases * work.scales
        few = work.correction.scores(work.passes.forward(), biases)
        slopes = work.slopes.of(few, work.aims[step], work.logs[step])
        work.passes.backward(work.correction.pulls(slopes))
        if self.hyper.learn_bias:
            torch.sum(slopes, 1, out=work.gradients.biases)
            if not self.unscaled:
                work.gradients.biases.mul_(work.scales)

    def _update(self, active: int, step: int) -> None:
        """AdamW, once for each run of neighbouring trials with the same learning rate."""
        rates = [self._rate(trial, step) for trial in range(active)]
        edges = [0, *(i for i in range(1, active) if rates[i] != rates[i - 1]), active]
        for start, stop in pairwise(edges):
            tensors, slopes, first, second = self._updated(start, stop)
            # What torch.optim.AdamW(fused=True) calls, without its preparations, which take as
            # long as the update of a small network.
            torch._fused_adamw_(
                tensors,
                slopes,
                first,
                second,
                [],
                [self.work.counts[step]] * len(tensors),
                amsgrad=False,
                beta1=0.9,
                beta2=0.999,
                lr=rates[start],
                weight_decay=self.hyper.weight_decay,
                eps=1e-8,
                maximize=False,
            )

    def _updated(self, start: int, stop: int) -> list[list[Tensor]]:
        """Parameters, gradients and both moments of some of the trials, made once."""
        if (start, stop) not in self.parts:
            self.parts[start, stop] = [
                [one[start:stop] for one in networks.tensors()[self.trained]]
                for networks in self.states
            ]
        return self.parts[start, stop]

    def _rate(self, trial: int, step: int) -> float:
        epoch = step // self.per_epoch[trial]
        return self.hyper.lr * 0.1 ** (epoch // self.hyper.decay_every)

    def _end_epoch(self, ended: Sequence[int], step: int) -> None:
        """Record the epoch of these trials, and keep their alphas if they are the best yet."""
        found = self.work.passes.forward().transpose(1, 2)
        for trial in ended:
            epoch = -(-(step + 1) // self.per_epoch[trial])
            # A budget of steps can end a trial before the first epoch that may be chosen.
            last = step + 1 == self.steps[trial]
            loss, val_overall = self._mean_loss(trial, step), None
            if epoch >= self.hyper.first_epoch or last:
                val_overall = self._consider(trial, epoch, found[trial])
            self.results[trial].history.append(EpochRecord(epoch, loss, val_overall))

    def _mean_loss(self, trial: int, step: int) -> float:
        """That of the epoch's steps up to this one."""
        steps = slice(step - step % self.per_epoch[trial], step + 1)
        aims = Aims(*(one[steps, trial] for one in vars(self.aims).values()))
        # In float64, because sums of float32 are rounded differently in other batches; what is
        # recorded is rounded back.
        whole = aims.losses(self.logs[steps, trial]).cpu().sum(dtype=torch.float64)
        return float((whole / (steps.stop - steps.start)).float())

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
            positions = self.entering.positions_of(trial)[:few]
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
        active: How many trials, A.
        networks: Theirs.
        gradients: By the parameters of these.
        passes: Through the networks and back.
        scales: Logit scales, A x 1.
        rows: Memory for a step's scores, (A * n) x U.
        correction: How they are corrected.
        slopes: How the gradients by them are found.
        index: Indices of each step's samples, A * n.
        aims: What they are to be taken for.
        logs: Where the log shares of what they are to be taken for are kept, A x n x 1.
        counts: Which step each is, from 1.
    """

    active: int
    networks: Networks
    gradients: Networks
    passes: Passes
    scales: Tensor
    rows: Tensor
    correction: Correction
    slopes: Slopes
    index: Sequence[Tensor]
    aims: Sequence[Aims]
    logs: Sequence[Tensor]
    counts: Sequence[Tensor]

    @classmethod
    def of(cls, batch: Batch, active: int) -> _Work:
        """That of the first ``active`` trials."""
        samples, columns = batch.index.shape[-1], len(batch.entering.train.columns.weight)
        networks, gradients = batch.networks.first(active), batch.gradients.first(active)
        near = batch.entering.positions[:active].transpose(1, 2).contiguous()
        rows = networks.biases.new_empty(active, samples, columns)
        few = len(batch.own[0].few)
        return cls(
            active=active,
            networks=networks,
            gradients=gradients,
            passes=Passes(networks, batch.entering.inputs.only(slice(active)), gradients),
            scales=batch.scales[:active],
            rows=rows.flatten(0, 1),
            correction=correction_of(near.expand(active, -1, -1), rows, classes=few),
            slopes=Slopes(rows[:, :, : networks.biases.shape[1]], few),
            index=batch.index[:, :active].flatten(1).unbind(0),
            aims=batch.aims.by_step(active),
            logs=batch.logs[:, :active].unbind(0),
            counts=batch.counts.unbind(0),
        )


def _step_samples(
    trials: Sequence[Trial], hyper: Hyper, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Sample indices of each step and the share of each in the step's mean, steps x T x batch.

    The last step of a pass has fewer samples; its padding has share 0.
    """
    steps, size = trials[0].steps(hyper), hyper.batch_size
    width = size + (-size % SAMPLES_ALIGNED)
    index = np.zeros((steps, len(trials), width), dtype=np.int64)
    share = np.zeros((steps, len(trials), width), dtype=np.float32)
    for place, trial in enumerate(trials):
        per_pass, wanted = trial.steps_per_pass(hyper), trial.samples.shape[1]
        padded = np.full((len(trial.samples), per_pass * size), -1, dtype=np.int64)
        padded[:, :wanted] = trial.samples
        rows = padded.reshape(-1, size)[:steps]
        index[: len(rows), place, :size] = np.maximum(rows, 0)
        real = rows >= 0
        share[: len(rows), place, :size] = real / real.sum(1, keepdims=True)
    return torch.from_numpy(index).to(device), torch.from_numpy(share).to(device)


def _inputs(
    neighbors: Tensor, own: Sequence[SweepData], *, drawn: bool, include_self: bool
) -> Inputs:
    """The networks' input: rows of neighbours, T x F x K (or 1 x ... if all trials share them)."""
    if include_self:
        selves = own[0].few.expand(len(neighbors), -1)[..., None]
        neighbors = torch.cat([selves, neighbors], dim=2)
    heads = own[:1] if all(one is own[0] for one in own) else own
    return inputs_of([one.weight for one in heads], neighbors, own=drawn)
