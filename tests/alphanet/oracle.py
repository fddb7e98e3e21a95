"""AlphaNet as the paper writes it: features, the whole patched head, cross-entropy, nn.Module.

Slow and plain on purpose. The reduced objective and the batched trainer are held against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from alphafix.alphanet.trial import Hyper, Trial
from alphafix.values.arrays import IntArray
from alphafix.values.head import Head


class AlphaNetModule(nn.Module):
    """Eq. 1: concatenated classifier rows -> coefficients of unit 1-norm."""

    def __init__(self, inputs: int, hidden: Sequence[int], k: int) -> None:
        super().__init__()
        sizes = [inputs, *hidden, k]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))

    def forward(self, rows: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            rows = functional.leaky_relu(layer(rows), 0.01)
        alpha = self.layers[-1](rows)
        scaled: Tensor = alpha / alpha.abs().sum(1, keepdim=True)
        return scaled


@dataclass
class Direct:
    """One trial by the direct objective."""

    head: Head
    few: Tensor
    neighbors: Tensor
    network: AlphaNetModule
    biases: nn.Parameter
    include_self: bool

    @classmethod
    def of(cls, trial: Trial, head: Head, few: IntArray, hyper: Hyper) -> Direct:
        width = head.width * (trial.k + hyper.include_self)
        torch.manual_seed(trial.seed)
        network = AlphaNetModule(width, hyper.hidden, trial.k)
        biases = nn.Parameter(torch.from_numpy(head.bias_or_zeros[few].copy()))
        biases.requires_grad_(hyper.learn_bias)
        return cls(
            head,
            torch.from_numpy(few),
            torch.from_numpy(trial.neighbors),
            network,
            biases,
            hyper.include_self,
        )

    def patched(self) -> tuple[Tensor, Tensor]:
        """The whole corrected head, C x D and C (Eq. 2 and 4)."""
        weight = torch.from_numpy(self.head.weight)
        near = weight[self.neighbors]
        inputs = near.flatten(1)
        if self.include_self:
            inputs = torch.cat([weight[self.few], inputs], dim=1)
        alpha = self.network(inputs)
        rows = weight[self.few] + torch.einsum("fk,fkd->fd", alpha, near)
        bias = torch.from_numpy(self.head.bias_or_zeros)
        return weight.index_copy(0, self.few, rows), bias.index_copy(0, self.few, self.biases)

    def logits(self, features: Tensor) -> Tensor:
        weight, bias = self.patched()
        return self.head.scale * (features @ weight.T + bias)

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(self.logits(features), labels)


def train_direct(
    trial: Trial,
    head: Head,
    few: IntArray,
    hyper: Hyper,
    features: Tensor,
    labels: Tensor,
    val: tuple[Tensor, Tensor] | None,
) -> tuple[Direct, list[float], int, dict[str, Tensor]]:
    """Train as the paper says; return the model, epoch losses, best epoch and its head."""
    direct = Direct.of(trial, head, few, hyper)
    parameters = [p for p in [*direct.network.parameters(), direct.biases] if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=hyper.lr, weight_decay=hyper.weight_decay)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, hyper.decay_every, 0.1)
    losses, best, best_epoch, kept = [], -1, 0, {}
    for epoch, samples in enumerate(torch.from_numpy(trial.samples), start=1):
        epoch_losses = []
        for index in samples.split(hyper.batch_size):
            loss = direct.loss(features[index], labels[index])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            epoch_losses.append(float(loss.detach()))
        schedule.step()
        losses.append(float(np.mean(epoch_losses)))
        if epoch < hyper.first_epoch:
            continue
        with torch.no_grad():
            weight, bias = direct.patched()
            correct = 0
            if val is not None:
                correct = int((direct.logits(val[0]).argmax(1) == val[1]).sum())
        if val is None or correct > best:
            best, best_epoch, kept = correct, epoch, {"weight": weight, "bias": bias}
    return direct, losses, best_epoch, kept
